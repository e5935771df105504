"""The metrics: what Prometheus reads is right, bounded, and for nobody but who shows the scraper's key."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from tests.integration.machine import Vmtool
from tests.integration.serving.processes import Serving, serving, until
from tests.integration.serving.prometheus import promtool, reading
from tests.integration.serving.run_front import KEY, MANAGER, SCRAPER
from vmtool.metrics.host_text import ABOUT, InstanceFacts, host_lines

SCRAPE = f"Authorization: Bearer {SCRAPER}\r\n"


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path) as one:
        yield one


def managed(front: Serving) -> Serving:
    return Serving(front.manage_port, front.front, front.engine, front.directory)


def scraped(front: Serving) -> dict[tuple[str, ...], float]:
    """Name and label values to value."""
    status, body = managed(front).ask("GET", "/metrics", SCRAPE)
    assert status == 200
    return {(sample.name, *sample.labels.values()): sample.value
            for family in families(body.decode()) for sample in family.samples}


def test_requests_tokens_and_times_are_counted(front: Serving) -> None:
    chat = "POST /v1/chat/completions"
    usage = '{"usage":{"prompt_tokens":40,"completion_tokens":60}}'
    body = b'{"says": "%s"}' % usage.replace('"', '\\"').encode()
    assert front.ask("POST", "/v1/chat/completions", body=body)[0] == 200
    front.say(front.chat(stream=3).replace(b"Host: x", b"Host: x\r\nConnection: close"))
    front.ask("GET", "/v1/models", "")
    front.ask("GET", "/nowhere")
    front.say(front.chat(stream=1, **{"break": 1}))
    found = scraped(front)
    assert found["vmtool_requests_total", chat, "200", "key"] == 2
    assert found["vmtool_requests_total", chat, "499", "key"] == 1
    assert found["vmtool_requests_total", "GET /v1/models", "401", ""] == 1
    assert found["vmtool_requests_total", "other", "404", "key"] == 1
    assert found["vmtool_tokens_total", "prompt", "key"] > 40
    assert found["vmtool_tokens_total", "completion", "key"] == 60 + 4 + 1
    assert found["vmtool_request_seconds_count", chat] == 3
    assert found["vmtool_first_token_seconds_count", chat] == 2
    assert (found["vmtool_engine_up",], found["vmtool_engine_restarts_total",]) == (1, 0)
    assert found["vllm:kv_cache_usage_perc", "0", "canary"] == 0.25
    assert found["tensafe_vllm_requests_total", "200"] == 2
    assert found["tensafe_vllm_tokens_generated",] == 65
    assert found["tensafe_vllm_kv_cache_utilization",] == 0.25
    assert found["tensafe_vllm_he_operations_total",] == 0
    assert found["tensafe_vllm_latency_seconds_count",] == 4


def test_a_scraper_sees_the_metrics_and_nothing_else(front: Serving) -> None:
    one = managed(front)
    for key, metrics, access in ((SCRAPER, 200, 401), (MANAGER, 200, 200), (KEY, 401, 401), ("", 401, 401)):
        headers = f"Authorization: Bearer {key}\r\n" if key else ""
        assert one.ask("GET", "/metrics", headers)[0] == metrics
        assert one.ask("GET", "/access", headers)[0] == access
    assert one.ask("POST", "/metrics", SCRAPE)[0] == 405
    assert front.ask("GET", "/metrics", SCRAPE)[0] == 401
    assert front.ask("GET", "/metrics")[0] == 404


@pytest.mark.parametrize(("given", "passed"), [
    (b"a_metric 1", True), (b"", False), (b"x" * (2 << 20), False)])
def test_what_the_engine_says_is_bounded(front: Serving, given: bytes, passed: bool) -> None:
    (front.directory / "engine.metrics").write_bytes(given)
    assert (("a_metric",) in scraped(front)) == passed


def test_an_engine_that_is_away_takes_only_its_own_metrics_along(tmp_path: Path) -> None:
    with serving(tmp_path, engine=False, health=503) as one:
        assert scraped(one)["vmtool_engine_up",] == 0


def test_scrapers_that_never_read_keep_nobody_out_and_are_left(front: Serving) -> None:
    (front.directory / "engine.metrics").write_bytes(b"# HELP x y\n" * (65 << 10))
    with contextlib.ExitStack() as open_ones:
        for _ in range(4):
            connection = open_ones.enter_context(managed(front).connect())
            connection.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\n{SCRAPE}\r\n".encode())
        time.sleep(1)
        assert front.ask("GET", "/v1/models")[0] == 200
        until(lambda: managed(front).ask("GET", "/metrics", SCRAPE)[0] == 200, "nobody is heard any more")
    assert front.memory() < 150 << 20


def test_a_token_with_many_routes_and_statuses_makes_no_row_without_end(front: Serving) -> None:
    for number in range(50):
        front.ask("GET", f"/nowhere/{number}")
    assert sum(key[0] == "vmtool_requests_total" for key in scraped(front)) < 10


def test_promtool_accepts_the_text(front: Serving, programs: Path, tmp_path: Path) -> None:
    front.say(front.chat(stream=3).replace(b"Host: x", b"Host: x\r\nConnection: close"))
    (front.directory / "engine.metrics").write_bytes(b"")
    _, body = managed(front).ask("GET", "/metrics", SCRAPE)
    said = promtool(programs, "check", "metrics", text=body)
    # The names are those of the guide, whatever the linter wants of names.
    assert [line for line in said.splitlines() if not line.startswith("tensafe_")] == []
    lines = "".join(f"{line}\n" for line in host_lines([InstanceFacts("a", True, False, 1.5, 2e9), InstanceFacts(
        "b", False)]))
    assert promtool(programs, "check", "metrics", text=lines.encode()) == ""
    assert 'vmtool_canary_right{name="a"} 0' in lines
    assert 'vmtool_canary_right{name="b"}' not in lines


def test_promtool_accepts_the_rules_and_each_question_of_the_dashboard(programs: Path, tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    (tmp_path / "alerts.yml").write_text(tool("metrics", "--alerts").out)
    assert promtool(programs, "check", "rules", str(tmp_path / "alerts.yml")) == ""
    dashboard = json.loads(tool("metrics", "--dashboard").out)
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"r{number}", "expr": expr.replace("$__rate_interval", "5m")}
             for number, expr in enumerate(asked)]
    (tmp_path / "asked.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert promtool(programs, "check", "rules", str(tmp_path / "asked.yml")) == ""
    assert tool("metrics", "--alerts", "a", status=2).err


def test_every_metric_that_is_asked_for_is_there(front: Serving, tmp_path: Path) -> None:
    front.say(front.chat(stream=3).replace(b"Host: x", b"Host: x\r\nConnection: close"))
    there = {key[0] for key in scraped(front)} | set(ABOUT)
    tool = Vmtool(tmp_path / "state")
    asked = tool("metrics", "--alerts").out + tool("metrics", "--dashboard").out
    names = set(re.findall(r"(?:vmtool|vllm)[_:][a-z_]+(?=[{\[\])]| [-=><])", asked))
    assert len(names) > 8
    assert names <= there


def test_a_real_prometheus_reads_it(front: Serving, programs: Path, tmp_path: Path) -> None:
    with reading(programs, tmp_path, f"127.0.0.1:{front.manage_port}", authorization={"credentials": SCRAPER}) as ask:
        until(lambda: ask("vmtool_engine_up") == ["1"], "Prometheus has not read it")
