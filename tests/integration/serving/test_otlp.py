"""Metrics sent by OTLP: a collector gets what the front counted, and one that hangs or refuses costs a message."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.integration.machine import Vmtool
from tests.integration.serving.processes import Serving, serving
from tests.integration.serving.run_front import SCRAPER
from vmtool.errors import VmtoolError
from vmtool.metrics import push as pushing
from vmtool.metrics.push import Collector, push


class Sink(ThreadingHTTPServer):
    """A collector on loopback: keeps what it was sent, as protobuf's own classes read it."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.headers, self.taken = status, list[dict[str, str]](), list[ExportMetricsServiceRequest]()
        super().__init__(("127.0.0.1", 0), _Taking)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/metrics"

    def metrics(self) -> dict[str, Metric]:
        return {metric.name: metric for request in self.taken for resource in request.resource_metrics
                for scope in resource.scope_metrics for metric in scope.metrics}


class _Taking(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.headers.append(dict(self.headers))
        self.server.taken.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def sink(status: int = 200) -> Iterator[Sink]:
    with Sink(status) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def front_says(front: Serving) -> str:
    status, body = Serving(front.manage_port, front.front, front.engine, front.directory).ask(
        "GET", "/metrics", f"Authorization: Bearer {SCRAPER}\r\n")
    assert status == 200
    return body.decode()


def test_a_collector_gets_what_the_front_counted(tmp_path: Path) -> None:
    with serving(tmp_path) as front, sink() as collector:
        front.say(front.chat(stream=3).replace(b"Host: x", b"Host: x\r\nConnection: close"))
        push(Collector(collector.url, {"x-key": "1"}), {"a": front_says(front)})
        found = collector.metrics()
        assert collector.headers[0]["x-key"] == "1"
    resource = collector.taken[0].resource_metrics[0].resource
    assert {word.key: word.value.string_value for word in resource.attributes}.items() >= {
        "service.name": "vmtool", "service.instance.id": "a"}.items()
    requests = found["vmtool_requests_total"].sum
    assert requests.is_monotonic and [point.as_double for point in requests.data_points] == [1]
    assert {word.key: word.value.string_value for word in requests.data_points[0].attributes}["status"] == "200"
    times = found["vmtool_request_seconds"].histogram.data_points[0]
    assert times.count == sum(times.bucket_counts) == 1
    assert len(times.bucket_counts) == len(times.explicit_bounds) + 1
    assert found["vmtool_engine_up"].gauge.data_points[0].as_double == 1
    assert found["vllm:kv_cache_usage_perc"].gauge.data_points[0].as_double == 0.25


def test_buckets_count_what_is_between_two_bounds(tmp_path: Path) -> None:
    text = ("# TYPE h histogram\n" + "".join(f'h_bucket{{le="{bound}",r="x"}} {count}\n' for bound, count in (
        ("0.1", 2), ("1.0", 5), ("+Inf", 6))) + 'h_count{r="x"} 6\nh_sum{r="x"} 9.5\n# TYPE g gauge\ng NaN\n')
    with sink() as collector:
        push(Collector(collector.url, {}), {"": text})
    point = collector.metrics()["h"].histogram.data_points[0]
    assert (list(point.bucket_counts), list(point.explicit_bounds), point.sum) == ([2, 3, 1], [0.1, 1.0], 9.5)
    assert "g" not in collector.metrics()


@pytest.mark.parametrize("text", ["a{", "a b", "# TYPE a histogram\na_bucket{le=\"x\"} 1"])
def test_what_is_no_metrics_is_not_sent(text: str) -> None:
    with sink() as collector, pytest.raises(VmtoolError, match="no metrics"):
        push(Collector(collector.url, {}), {"a": text})
    assert collector.taken == []


def test_a_collector_that_refuses_is_named_with_its_status(tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    with sink(403) as collector:
        said = tool("metrics", "--otlp", collector.url, status=1)
        assert collector.url in said.err and "403" in said.err


def test_a_collector_that_hangs_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "DEADLINE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/metrics"
        with pytest.raises(VmtoolError, match="did not take"):
            push(Collector(url, {}), {"a": "a 1\n"})


def test_again_and_again_a_failure_is_said_and_tried_anew(tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    with sink(400) as collector:
        words = tool.argv("metrics", "--otlp", collector.url, "--every", "1")
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            assert "did not take" in process.stderr.readline()
            collector.status = 200
            while len(collector.taken) < 2:
                assert process.poll() is None
            process.terminate()


def test_options_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    assert "--otlp" in tool("metrics", "--every", "5", status=2).err
    (tmp_path / "headers").write_text("no colon\n")
    assert "headers:1" in tool("metrics", "--otlp", "http://127.0.0.1:1", "--headers", str(tmp_path / "headers"),
                               status=2).err
