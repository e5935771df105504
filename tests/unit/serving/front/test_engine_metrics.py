"""vLLM's own metrics: what is passed on can be read, whatever an engine says."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families as families

from vmtool.serving.front.engine_metrics import readable
from vmtool.serving.front.metrics import KV_CACHE


def test_all_that_a_client_library_writes_is_passed_on() -> None:
    registry = CollectorRegistry()
    Gauge("vllm:kv_cache_usage_perc", "KV cache \\ usage\nof two lines", ["engine", "model_name"],
          registry=registry).labels("0", 'a "quoted" \\ na\nme, {é}').set(2.5e-07)
    Counter("vllm:prompt_tokens", "", registry=registry).inc(12345678901234567890)
    latency = Histogram("vllm:e2e_request_latency_seconds", "H", registry=registry)
    latency.observe(float("inf"))
    for value in ("nan", "inf", "-inf"):
        Gauge(f"g_{value.strip('-')}_{len(value)}", "G", registry=registry).set(float(value))
    text = generate_latest(registry)
    assert readable(text) == text
    assert KV_CACHE.search(readable(text))


@pytest.mark.parametrize("line", [
    b"{}", b'{"detail":"Not Found"}', b"<html>", b"a", b"a ", b"a one", b"a 1 2 3", b"a{b} 1", b'a{b="c} 1',
    b'a{b="\\x"} 1', b'a{1="c"} 1', b"1a 1", b"a 1e999", b"a " + b"9" * 400, b"a 1 99999999999999999999", b"a 1\r",
    b"# TYPE a nonsense", b"# anything", b"vmtool_engine_up 1", b"tensafe_vllm_requests_total 7", b"\x00", b"a\xff 1",
    b"# TYPE vmtool_engine_up counter", b"a .", b"vllm:kv_cache_usage_perc ..."])
def test_one_line_that_cannot_be_read_takes_no_other_along(line: bytes) -> None:
    assert readable(b"before 1\n" + line + b"\nafter 2\n") == b"before 1\nafter 2\n"


def test_what_is_no_utf_8_is_passed_on_as_what_is_none() -> None:
    [family] = families(readable(b'a{b="\xff"} 1').decode())
    assert family.samples[0].labels == {"b": "\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("text", [
    b'a{b="' + b"c" * 700_000, b"a{" + b'b="c",' * 100_000, b"a" * 700_000, b"\n" * 700_000, b"# HELP " * 100_000])
def test_a_hostile_text_takes_no_time(text: bytes) -> None:
    began = time.process_time()
    readable(text)
    assert time.process_time() - began < 2
