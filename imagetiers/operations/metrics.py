"""metrics: what the cache holds and how the newest builds went, as Prometheus reads it (text format 0.0.4)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagetiers import __version__
from imagetiers.ccache.listing import StoredNamespace, stored_namespaces
from imagetiers.operations.outfile import write_out
from imagetiers.parallel import map_parallel
from imagetiers.session import Session
from imagetiers.state.records import Record, own_records

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

__all__ = ["show_metrics"]

_NAMESPACES = 200  # whoever may write one may write many, and each would be a series of its own
_READ = 10  # newest records of a tier: those of other variants are among them
_THREADS = 16
_KINDS = ("compile", "image")


def show_metrics(session: Session, *, to: str) -> None:
    """Write the metrics to stdout or to the file `to`: whole or not at all, as node_exporter's textfile collector needs it.

    Raises StoreError where the cache does not answer: values of nothing would look like an empty cache.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(session))
    text = generate_latest(registry).decode()
    if to == "-":
        sys.stdout.write(text)
    else:
        write_out(Path(to), text, f"--out {to}")


class _Collected:
    """All families. Each series says of which pipeline and variant it is: one Prometheus has those of many."""

    def __init__(self, session: Session) -> None:
        pipeline = session.plan.pipeline
        self._own = {"pipeline": pipeline.name, "variant": pipeline.variant or ""}
        store = session.services.store
        self._objects: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        for blob in store.list():
            part = blob.name.partition("/")[0]
            self._objects[part] += 1
            self._bytes[part] += blob.size
        spaces = sorted(stored_namespaces(store), key=lambda space: -space.written)
        self._spaces: list[StoredNamespace] = spaces[:_NAMESPACES]
        asked = [(tier, kind) for tier in session.plan.tiers for kind in _KINDS]
        found = map_parallel(lambda one: own_records(session, *one, most=_READ), asked, _THREADS)
        self._records: list[Record] = [records[0] for records in found if records]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families, as prometheus_client asks for them."""
        yield self._family("info", "The version that has written this.", ("version",), [((__version__,), 1)])
        yield self._family("cache_objects", "Objects in the cache.", ("part",), _each(self._objects))
        yield self._family("cache_bytes", "Bytes of the objects in the cache.", ("part",), _each(self._bytes))
        sizes = [((space.name,), space.size) for space in self._spaces]
        yield self._family("ccache_bytes", "Bytes of a line of compiles' ccache.", ("namespace",), sizes)
        written = [((space.name,), space.written) for space in self._spaces]
        what = "When a line of compiles' ccache was pushed last, in Unix seconds."
        yield self._family("ccache_pushed_timestamp_seconds", what, ("namespace",), written)
        yield from self._builds()

    def _builds(self) -> Iterator[GaugeMetricFamily]:
        of = ("tier", "kind")
        records = [((record.tier, record.kind), record) for record in self._records]
        seconds = [(labels, record.seconds) for labels, record in records]
        yield self._family("build_seconds", "How long the newest build took.", of, seconds)
        began = [(labels, record.began) for labels, record in records]
        yield self._family("build_began_timestamp_seconds", "When the newest build began, in Unix seconds.", of, began)
        phases = [((*labels, phase), took) for labels, record in records for phase, took in record.phases.items()]
        yield self._family("build_phase_seconds", "What the newest build spent on a phase.", (*of, "phase"), phases)
        sizes = [((record.tier,), record.size) for _, record in records if record.size]
        yield self._family("image_bytes", "The size of the newest image.", ("tier",), sizes)
        compiles = [record for _, record in records if record.kind == "compile"]
        calls = [
            ((record.tier, outcome), count)
            for record in compiles
            for outcome, count in (("hit", record.hits), ("miss", record.misses))
        ]
        what = "Compiler calls of the newest compile through ccache."
        yield self._family("compile_calls", what, ("tier", "outcome"), calls)
        spent = [
            ((record.tier, one.name, how), took)
            for record in compiles
            for one in record.classes
            for how, took in (("saved", one.saved), ("compiled", one.compiled))
        ]
        what = "Seconds of compilers that the newest compile's hits have saved, and that its misses took."
        yield self._family("compile_object_seconds", what, ("tier", "class", "how"), spent)

    def _family(
        self, name: str, what: str, labels: tuple[str, ...], values: Sequence[tuple[tuple[str, ...], float]]
    ) -> GaugeMetricFamily:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(f"imagetiers_{name}", what, labels=[*self._own, *labels])
        for own, value in values:
            family.add_metric([*self._own.values(), *own], value)
        return family


def _each(counted: Counter[str]) -> list[tuple[tuple[str, ...], float]]:
    return [((name,), value) for name, value in sorted(counted.items())]
