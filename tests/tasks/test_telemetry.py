"""Spans of a run, as a collector gets them over OTLP/HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imagetiers.adapters.telemetry import open_spans
from imagetiers.events import Recorded, RunBegan, RunEnded, TaskBegan, TaskEnded
from tests.engine.conftest import Checkout

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass
class Collector:
    """An OTLP collector: what it was sent, by the names of the spans."""

    url: str
    spans: dict[str, Any] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans.update({span.name: span for span in scope.spans})

    def attributes(self, name: str) -> dict[str, Any]:
        return {
            each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in self.spans[name].attributes
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def test_a_build_with_its_phases(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{PARENT}-01")
    said: list[str] = []
    tell = open_spans(said.append, "OTEL_EXPORTER_OTLP_ENDPOINT")
    assert tell is not None
    record = {
        "kind": "compile", "tier": "app", "key": "a" * 64, "began": 1000.0, "seconds": 60.0, "hits": 3, "misses": 1,
        "phases": {"pull": 5.0, "compile container": 50.0, "push": 5.0}, "parts": {"configure": 10.0, "torch": 40.0},
    }  # fmt: skip

    tell(RunBegan("0.2.0", "demo", "cpu", "trusted", ("push",)))
    tell(TaskBegan("compile:app", "its wheels are absent"))
    tell(Recorded(record))
    tell(TaskEnded("compile:app", "done", 60.0))
    tell(TaskBegan("image:app", "its image is absent"))
    tell(TaskEnded("image:app", "failed", 1.0, "it failed"))
    tell(TaskEnded("verify:app", "up to date", 0.0))
    tell(TaskBegan("push:other", ""))
    tell(RunEnded(61.0, 1, 0, 1))

    spans = collector.spans
    assert said == []
    assert set(spans) == {
        "doit", "compile:app", "pull", "compile container", "configure", "torch", "push", "image:app", "push:other",
    }  # fmt: skip
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    names = {span.span_id: name for name, span in spans.items()}
    above = {name: names.get(span.parent_span_id, span.parent_span_id.hex()) for name, span in spans.items()}
    assert above == {
        "doit": PARENT, "compile:app": "doit", "image:app": "doit", "push:other": "doit", "pull": "compile:app",
        "compile container": "compile:app", "push": "compile:app", "configure": "compile container",
        "torch": "compile container",
    }  # fmt: skip
    torch = spans["torch"]
    assert (torch.start_time_unix_nano, torch.end_time_unix_nano) == (1015 * 10**9, 1055 * 10**9)
    assert collector.attributes("compile:app").items() >= {
        "cicd.pipeline.task.name": "compile:app", "cicd.pipeline.task.run.result": "success", "imagetiers.hits": 3,
        "imagetiers.key": "a" * 64, "imagetiers.why": "its wheels are absent",
    }.items()  # fmt: skip
    assert collector.attributes("doit")["cicd.pipeline.result"] == "failure"
    assert spans["image:app"].status.message == "it failed"
    assert collector.attributes("push:other")["cicd.pipeline.task.run.result"] == "cancellation"
    assert collector.services == {"imagetiers"}


def test_a_doit(collector: Collector, offline: Checkout) -> None:
    run = offline.doit("check", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="images")

    assert run.code == 0, run.text
    assert set(collector.spans) == {"doit", "check"}
    assert collector.attributes("doit")["cicd.pipeline.result"] == "success"
    assert collector.services == {"images"}


def test_a_collector_that_is_not_there_costs_a_line_and_seconds(offline: Checkout) -> None:
    began = time.monotonic()
    run = offline.doit("check", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")

    assert run.code == 0, run.text
    assert run.text.count("OpenTelemetry: spans are not sent: ") == 1
    assert "Traceback" not in run.text
    assert time.monotonic() - began < 30


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("imagetiers.extras.find_spec", lambda _name: None)
    said: list[str] = []

    assert open_spans(said.append, "OTEL_EXPORTER_OTLP_ENDPOINT") is None
    assert "pip install 'imagetiers[otel]'" in said[0]
