"""The real exporter of Application Insights, sending to a server on this machine that speaks its ingestion protocol."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
from shared import telemetry
from shared.bootstrap import start_telemetry
from shared.settings import StoreSettings
from opentelemetry import metrics, trace

assert start_telemetry(StoreSettings(), "facerelay-test") is None
where = telemetry.place("hq", "entrance")
parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
with telemetry.span("recognize.candidate", kind=telemetry.CONSUMER, carrier=parent):
    with telemetry.stage("detect"):
        telemetry.CANDIDATES.add(where)
        telemetry.REJECTED.add({**where, "reason": "no_face"})
trace.get_tracer_provider().force_flush()
metrics.get_meter_provider().force_flush()
"""


@pytest.fixture
def ingestion() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Connection string of a server that takes envelopes, and the envelopes that it took."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            text = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            envelopes = json.loads(text)
            taken.extend(envelopes)
            answer = {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []}
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = "00000000-0000-0000-0000-000000000001"
    yield f"InstrumentationKey={key};IngestionEndpoint=http://127.0.0.1:{server.server_address[1]}/", taken
    server.shutdown()
    server.server_close()


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("APPLICATIONINSIGHTS", "OTEL"))}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env | environment, capture_output=True, text=True, timeout=60
    )


def test_spans_and_metrics_arrive_with_their_trace_and_labels(ingestion: tuple[str, list[dict[str, Any]]]) -> None:
    connection, taken = ingestion
    done = run(PROGRAM, APPLICATIONINSIGHTS_CONNECTION_STRING=connection, OTEL_TRACES_SAMPLER="always_on")
    assert done.returncode == 0, done.stderr
    spans = {
        envelope["data"]["baseData"]["name"]: envelope
        for envelope in taken
        if envelope["data"]["baseType"] in ("RequestData", "RemoteDependencyData")
    }
    assert set(spans) == {"recognize.candidate", "detect"}
    assert {span["tags"]["ai.operation.id"] for span in spans.values()} == {"0af7651916cd43dd8448eb211c80319c"}
    assert spans["recognize.candidate"]["data"]["baseType"] == "RequestData"
    assert {span["tags"]["ai.cloud.role"] for span in spans.values()} == {"facerelay-test"}
    metrics = {
        point["name"]: (point["value"], envelope["data"]["baseData"].get("properties"))
        for envelope in taken
        if envelope["data"]["baseType"] == "MetricData"
        for point in envelope["data"]["baseData"]["metrics"]
    }
    assert metrics["facerelay.candidates"] == (1, {"site": "hq", "camera": "entrance"})
    assert metrics["facerelay.rejected"] == (1, {"site": "hq", "camera": "entrance", "reason": "no_face"})
    assert metrics["facerelay.stage.duration"][1] == {"stage": "detect"}


def test_no_log_record_is_sent(ingestion: tuple[str, list[dict[str, Any]]]) -> None:
    """The platform forwards them; a second copy would count everything twice."""
    connection, taken = ingestion
    logged = PROGRAM + "\nimport logging; logging.getLogger('functions').error('told once')\n"
    done = run(logged, APPLICATIONINSIGHTS_CONNECTION_STRING=connection)
    assert done.returncode == 0, done.stderr
    assert "told once" not in json.dumps(taken)


def test_without_a_connection_string_the_sdk_is_not_imported() -> None:
    program = """
import sys
from shared.bootstrap import start_telemetry
from shared.settings import StoreSettings
assert start_telemetry(StoreSettings(), "facerelay-test") is None
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "azure.monitor", "prometheus"))])
"""
    done = run(program)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
