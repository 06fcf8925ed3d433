"""Spans of a real run, as an OTLP receiver hears them: what is there, and what lies under what."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from muster_telemetry.tracing import open_tracing, round_trace
from running import muster, write_job


class Receiver:
    """Takes spans over HTTP, as a collector does."""

    def __init__(self):
        self.spans = []  # (service, span)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    named = {each.key: each.value.string_value for each in resource.resource.attributes}
                    spans = [span for scope in resource.scope_spans for span in scope.spans]
                    receiver.spans += [(named["service.name"], span) for span in spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The spans of one run, by their ids, and the job's uid."""
    folder, receiver = tmp_path_factory.mktemp("traced"), Receiver()
    try:
        done = muster(
            *("run", write_job(folder), "--json", "--no-baselines", "--out", "run"),
            cwd=folder,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        )
    finally:
        receiver.close()
    assert done.returncode == 0, done.stderr
    uid = json.loads((folder / "run" / "job.json").read_text())["uid"]
    return {span.span_id: (service, span) for service, span in receiver.spans}, uid


def names(traced, number):
    """How often each span is in a round's trace."""
    spans, uid = traced
    trace = round_trace(uid, number).trace_id.to_bytes(16, "big")
    return Counter(span.name for _, span in spans.values() if span.trace_id == trace)


def test_every_round_is_a_trace_with_its_phases_and_what_the_clients_did(traced):
    for number in range(1, 5):
        found = names(traced, number)
        assert found["round"] == found["planning"] == found["collecting"] == found["committing"] == 1
        assert found["train"] == found["submit"] == found["serve submit"] + found["serve handin"] == 4
        assert found["evaluate"] >= 1
        assert found["fetch"] >= found["train"]


def test_spans_lie_under_one_another_across_processes(traced):
    spans, uid = traced
    for service, span in spans.values():
        if span.name == "round":
            number = next(each.value.int_value for each in span.attributes if each.key == "muster.round")
            assert span.span_id == round_trace(uid, number).span_id.to_bytes(8, "big")
            assert not span.parent_span_id
            assert service == "muster-coordinator"
            continue
        above_service, above = spans[span.parent_span_id]
        wanted = {
            "fetch": {"train", "evaluate"},
            "serve fetch": {"fetch"},
            "serve submit": {"submit"},
            "serve handin": {"submit"},
        }.get(span.name, {"round"})
        assert above.name in wanted, span.name
        assert above.trace_id == span.trace_id
        across = span.name.startswith("serve")
        assert (service, above_service) == ("muster-coordinator", "muster-worker") or not across


def test_a_round_lasts_from_its_plan_to_its_commit(traced):
    spans, _ = traced
    for _, span in spans.values():
        if span.name in {"planning", "collecting", "committing"}:
            _, above = spans[span.parent_span_id]
            assert above.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= above.end_time_unix_nano


def test_without_an_endpoint_there_is_nothing():
    assert open_tracing("worker", {}, {}) is None
    assert open_tracing("worker", {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}) is None
