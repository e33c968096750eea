"""The task `verify-supply-chain`: what stands behind a published image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.errors import Problem
from imagetiers.session import Session
from imagetiers.tasks.invocation import Act

__all__ = ["supply_chain_task"]


def supply_chain_task(act: Act) -> dict[str, Any]:
    """Return the task; `act` runs its work in a session."""

    def verify(images: list[str]) -> TaskFailed | None:
        from imagetiers.errors import PipelineError
        from imagetiers.operations.attest import key_argument
        from imagetiers.operations.verify_supply_chain import verify_supply_chain

        def work(session: Session) -> None:
            settings = session.plan.pipeline.supply_chain
            if settings is None or not settings.keys:
                hint = "supply_chain: {keys: {main: cosign.pub}} in pipeline.yaml"
                raise PipelineError(
                    Problem("verify-supply-chain", "pipeline.yaml names no key whose signature counts", hint)
                )
            keys = {name: key_argument(session.layout.root, key) for name, key in settings.keys.items()}
            services = session.services
            for name in images:
                ref = session.plan.tiers[name].ref if name in session.plan.tiers else name
                verify_supply_chain(
                    services.registry, services.notary, services.console.line, ref, keys=keys, kinds=settings.attach
                )

        return act(work)

    def none_named(_options: Mapping[str, Any], images: list[str]) -> list[Problem]:
        hint = "doit verify-supply-chain TIER, or HOST/REPOSITORY:TAG, or HOST/REPOSITORY@sha256:…"
        return [] if images else [Problem("doit verify-supply-chain", "names no image", hint)]

    return {
        "basename": "verify-supply-chain",
        "actions": [verify],
        "doc": "hold a published image against its signatures, attestations and attachments: doit verify-supply-chain REF",
        "pos_arg": "images",
        "meta": {"quiet": True, "wrong": none_named},
    }
