"""What an operation works with, in one value: the plan, where things lie, what lies outside, and whose build it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.patience import Background
from imagetiers.planning.plan import Plan
from imagetiers.services import Engine, Services
from imagetiers.stores.port import Store

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """One doit, from its first request to its last. What goes on in its `background` ends with it."""

    plan: Plan
    layout: Layout
    services: Services
    trust: Trust
    background: Background = field(default_factory=Background)

    def with_store(self, store: Store) -> Session:
        """Return it with another store, such as one that gives up in time."""
        return replace(self, services=replace(self.services, store=store))

    def with_engine(self, engine: Engine) -> Session:
        """Return it with another engine, such as one that is waited for only for so long."""
        return replace(self, services=replace(self.services, engine=engine))
