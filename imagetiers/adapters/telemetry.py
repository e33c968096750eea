"""Spans of a run for OpenTelemetry, made of its events: the run, its tasks, and the phases of what was built.

Where they go and what they are called is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_SERVICE_NAME`, ...). `TRACEPARENT` puts the run into the trace of the CI that started it. Names of attributes are those
of the semantic conventions for CI/CD, our own begin with `imagetiers.`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imagetiers.events import Event, Events, Recorded, RunBegan, RunEnded, TaskBegan, TaskEnded
from imagetiers.extras import missing_extra

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

__all__ = ["open_spans"]

_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_SECONDS = 5.0  # that a collector may take, where no variable says it: a doit ends after it
_RESULTS = {"done": "success", "failed": "failure", "not done": "skip"}
_CONTAINER = "compile container"  # the phase whose parts are the headings that a compile prints


def open_spans(say: Callable[[str], None], endpoint: str) -> Events | None:
    """Return what makes spans of events, None where it is not installed; `say` is told what is missing or wrong.

    `endpoint` is the variable that asks for them.
    """
    missing = missing_extra("opentelemetry.exporter.otlp.proto.http", "otel", endpoint, "sending spans")
    if missing is not None:
        say(str(missing))
        return None
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    log = logging.getLogger("opentelemetry")
    log.addHandler(_Once(say))
    log.propagate = False
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "imagetiers"}
    provider = TracerProvider(resource=Resource.create(name))
    timeout = None if any(os.environ.get(name) for name in _TIMEOUTS) else _SECONDS
    http = requests.Session()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout, session=http)))
    return _Spans(provider, http.close)


class _Once(logging.Handler):
    """Says the first thing that goes wrong, and no more: a collector that is down says it for each batch."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say: Callable[[str], None] | None = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless something was said before."""
        say, self._say = self._say, None
        if say is not None:
            say(f"OpenTelemetry: spans are not sent: {record.getMessage()}")


class _Spans:
    """One trace: the run's span, those of its tasks below it, and of their phases below these."""

    def __init__(self, provider: TracerProvider, hang_up: Callable[[], None]) -> None:
        self._provider = provider
        self._hang_up = hang_up  # the SDK leaves its connections open
        self._tracer = provider.get_tracer("imagetiers")
        self._lock = threading.Lock()
        self._run: Span | None = None
        self._tasks: dict[str, Span] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            match event:
                case RunBegan():
                    self._begin(event)
                case TaskBegan(task, why) if not task.startswith("_"):
                    told = {"cicd.pipeline.task.name": task, "imagetiers.why": why}
                    self._tasks[task] = self._start(task, self._run, time.time(), told)
                case Recorded(record):
                    self._record(record)
                case TaskEnded(task, outcome, _, error) if task in self._tasks:
                    self._end(self._tasks.pop(task), _RESULTS.get(outcome, outcome), error)
                case RunEnded(failed=failed):
                    self._close(failed)
                case _:
                    pass

    def _begin(self, event: RunBegan) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        given = {"traceparent": os.environ.get("TRACEPARENT", ""), "tracestate": os.environ.get("TRACESTATE", "")}
        above = TraceContextTextMapPropagator().extract({name: value for name, value in given.items() if value})
        self._run = self._tracer.start_span(
            "doit",
            context=above,
            attributes={
                "process.command_args": ["doit", *event.words],
                "cicd.pipeline.name": event.pipeline,
                "imagetiers.version": event.version,
                "imagetiers.variant": event.variant or "",
                "imagetiers.trust": event.trust,
            },
        )

    def _start(self, name: str, above: Span | None, at: float, attributes: Mapping[str, Any]) -> Span:
        from opentelemetry.trace import set_span_in_context

        context = set_span_in_context(above) if above is not None else None
        return self._tracer.start_span(name, context=context, start_time=_nanoseconds(at), attributes=attributes)

    def _record(self, record: Mapping[str, Any]) -> None:
        span = self._tasks.get(f"{record['kind']}:{record['tier']}")
        if span is None:
            return
        told = ("tier", "key", "change", "hits", "misses", "saved_seconds", "compiled_seconds", "image", "size", "cpus")
        span.set_attributes({f"imagetiers.{name}": record[name] for name in told if record.get(name) not in {"", None}})
        self._phases(span, record["began"], record["phases"], record.get("parts") or {})

    def _phases(self, above: Span, at: float, phases: Mapping[str, float], parts: Mapping[str, float]) -> None:
        for name, seconds in phases.items():
            span = self._start(name, above, at, {})
            if name == _CONTAINER:
                self._phases(span, at, parts, {})
            at += seconds
            span.end(_nanoseconds(at))

    @staticmethod
    def _end(span: Span, result: str, error: str = "") -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("cicd.pipeline.task.run.result", result)
        if result == "failure":
            span.set_status(StatusCode.ERROR, error)
        span.end()

    def _close(self, failed: int) -> None:
        """End what is open, which is what was interrupted, and send what was not sent."""
        from opentelemetry.trace import StatusCode

        interrupted = bool(self._tasks)
        for span in self._tasks.values():
            self._end(span, "cancellation")
        self._tasks.clear()
        if self._run is not None:
            result = "failure" if failed else "cancellation" if interrupted else "success"
            self._run.set_attribute("cicd.pipeline.result", result)
            if failed:
                self._run.set_status(StatusCode.ERROR)
            self._run.end()
        self._provider.shutdown()
        self._hang_up()


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
