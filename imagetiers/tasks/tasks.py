"""The plan as doit tasks. With `doit_plugins`, the only code that knows doit.

No task has `file_dep` or `targets`: whether it is up to date is decided by keys and by what the engine, the folders and
the cache hold, which a fresh machine can do as well. doit's database only keeps `doit ignore`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from imagetiers.session import Session
from imagetiers.tasks.ccache import ccache_tasks
from imagetiers.tasks.check import check_task
from imagetiers.tasks.gc import gc_tasks
from imagetiers.tasks.invocation import Connect, Invocation
from imagetiers.tasks.options import form, option, switch
from imagetiers.tasks.plan import bake_task, explain_task, plan_task
from imagetiers.tasks.scan import scan_tasks
from imagetiers.tasks.setup import setup_tasks
from imagetiers.tasks.start import Variables
from imagetiers.tasks.status import report_task, seeing_tasks, size_task, status_task
from imagetiers.tasks.supply_chain import supply_chain_task
from imagetiers.tasks.telling import Telling
from imagetiers.tasks.tier_task import TierTask
from imagetiers.tasks.trust import trust_tasks
from imagetiers.tasks.verbs import TierVerbs
from imagetiers.tasks.watch import watch_task

__all__ = ["Tasks"]

Task = dict[str, Any]


def _mode(value: str) -> str:
    """Read whose builds a file is for. Raises ValueError."""
    from imagetiers.report.cloudbuild import Mode

    mode: str = form("|".join(Mode.ALL), "is no mode", f"write {' or '.join(Mode.ALL)}")(value)
    return mode


class Tasks:
    """The task creators of one checkout and variant. Raises InvalidDodoFile when the pipeline is wrong.

    Making them reads files and does nothing else: `doit list` and `doit help` write nothing, and take nothing over.
    """

    def __init__(self, root: Path, variables: Variables, connect: Connect) -> None:
        self.invocation = Invocation(root, variables, connect)
        self._verbs = TierVerbs(self.invocation)

    @property
    def config(self) -> Task:
        """DOIT_CONFIG."""
        return {
            "default_tasks": [*self.invocation.default, "_summary"],
            "backend": "prompt",
            "dep_file": str(self.invocation.layout.work / "doit.db"),
            "par_type": "thread",  # processes hang on what they cannot pickle
            "reporter": type("Reporter", (Telling,), {"begin": staticmethod(lambda: self.invocation.session)}),
            "verbosity": 2,
        }

    # ---- in the order of `doit list` ----

    def groups(self) -> Iterator[Task]:
        """GROUP: what a doit does for all tiers, for those of a group of pipeline.yaml."""
        return self._verbs.groups()

    def check(self) -> Task:
        """check: pipeline.yaml, Dockerfiles and manifests, in every variant."""
        return check_task(
            self.invocation.act, lambda: self.invocation.session, self.invocation.plans, self.invocation.variants
        )

    def plan(self) -> Task:
        """plan: what would be done, why, and what it would take."""
        return plan_task(self.invocation.act)

    def compile(self) -> Iterator[Task | TierTask]:
        """compile:<tier>: wheels and other outputs."""
        return self._verbs.compile()

    def image(self) -> Iterator[Task | TierTask]:
        """image:<tier>: images, parents first."""
        return self._verbs.image()

    def verify(self) -> Iterator[Task | TierTask]:
        """verify:<tier>: the checks of a tier and its ancestors."""
        return self._verbs.verify()

    def push(self) -> Iterator[Task | TierTask]:
        """push:<tier>: publish verified images, parents first."""
        return self._verbs.push()

    def pull(self) -> Iterator[Task | TierTask]:
        """pull:<tier>: bring images here that the registry holds."""
        return self._verbs.pull()

    def explain(self) -> Task:
        """explain: why a tier would be built, down to the root cause."""
        return explain_task(self.invocation.act, self.invocation.whole, self.invocation.unknown_tiers)

    def size(self) -> Task:
        """size: what images weigh."""
        return size_task(self.invocation.act, self.invocation.unknown_tiers)

    def scan(self) -> Iterator[Task]:
        """scan: known vulnerabilities of images."""
        return scan_tasks(self.invocation.act, partial(self.invocation.unknown_tiers, "doit scan"))

    def supply_chain(self) -> Task:
        """verify-supply-chain: what stands behind a published image."""
        return supply_chain_task(self.invocation.act)

    def lock(self) -> Task:
        """lock: pin what the tiers are built from."""

        def pin(check: bool, keep: bool) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
            from imagetiers.operations.lock import lock_pins

            return self.invocation.act(
                lambda session: lock_pins(session, self.invocation.variants, check=check, keep=keep)
            )

        return {
            "actions": [pin],
            "doc": "pin outside images and git refs in pipeline.lock.yaml (--check: is it up to date?)",
            "params": [
                switch("check", "write nothing; fail if stale"),
                switch("keep", "only pin what is not pinned, and leave all other pins as they are"),
            ],
            "meta": {"quiet": True},
        }

    def status(self) -> Task:
        """status: what is here."""
        return status_task(self.invocation.act, self.invocation.plans)

    def report(self) -> Task:
        """report: what the builds so far were like."""
        return report_task(self.invocation.act)

    def seeing(self) -> Iterator[Task]:
        """metrics, tui: what there is, for other programs and on a screen."""
        return seeing_tasks(self.invocation.act, self.invocation.whole)

    def cloudbuild(self) -> Task:
        """cloudbuild: what Google Cloud Build runs."""

        def write(mode: str, check: bool) -> TaskFailed | None:  # noqa: FBT001  doit passes options so
            from imagetiers.operations.cloudbuild import write_cloudbuild

            return self.invocation.act(lambda session: write_cloudbuild(session, mode=mode, check=check))

        return {
            "actions": [write],
            "doc": "write ci/cloudbuild.yaml and ci/cloudbuild-pr.yaml (--check: are they stale?)",
            "params": [
                option("mode", "only the file for these builds: trusted or pr", _mode, default=""),
                switch("check", "only say whether it is stale"),
            ],
            "meta": {"quiet": True},
        }

    def bake(self) -> Task:
        """bake: the plan as a bake file."""
        return bake_task(self.invocation.act, self.invocation.whole)

    def ccache(self) -> Iterator[Task]:
        """ccache:<verb>: the compiler cache, looked at and kept in order."""
        return ccache_tasks(self.invocation.act)

    def gc(self) -> Iterator[Task]:
        """gc, cache:gc: room on this machine, and housekeeping of everything else in the cache."""
        return gc_tasks(self.invocation.act, self.invocation.plans)

    def watch(self) -> Task:
        """watch: build what is saved."""

        def files() -> list[str]:
            return [name for name, tier in self.invocation.plan.tiers.items() if tier.config.output is not None]

        return watch_task(self.invocation.act, self.invocation.unknown_tiers, files)

    def infrastructure(self) -> Iterator[Task]:
        """setup, teardown: what the pipeline needs outside."""
        return setup_tasks(self.invocation.act)

    def trust(self) -> Iterator[Task]:
        """trust:<verb>: keys that sign what trusted builds share."""
        return trust_tasks(self.invocation.act)

    def summary(self) -> Task:
        """The status table after a run that did something."""

        def show(session: Session) -> None:
            from imagetiers.operations.status import show_status

            show_status(session, ask=False)

        return {
            "actions": [(self.invocation.act, [show])],
            "task_dep": list(
                self.invocation.default
            ),  # of several workers, one may still make files when all is verified
            "uptodate": [lambda: not self.invocation.changed],
            "meta": {"quiet": True},
        }
