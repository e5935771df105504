"""What vLLM says of itself against what was asked. The lines were printed by vLLM 0.32.0's own parser and logger."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.launch.cases import RECORD, wish
from vmtool.claims import unmet
from vmtool.endpoint.vllm_report import compare, read_line, unasked
from vmtool.engine.journal import JournalState
from vmtool.instance.instance import Instance, Paths
from vmtool.serving.vllm_words import from_words
from vmtool.stage.vllm_claims import vllm_claims

LINES = [json.loads(line) for line in
         (Path(__file__).parents[2] / "data" / "vllm" / "non-default-args.jsonl").read_text().splitlines()]
GOOD = [each for each in LINES if "line" in each and not from_words(each["words"])[1]]
SWALLOWED = [each for each in LINES if "line" in each and from_words(each["words"])[1]]


def claims(line: str | None, models: Any = None, **vllm: Any) -> dict[str, tuple[str, str]]:
    spec, paths = wish(vllm=vllm), Paths(Path("/i/a"))
    said = {"arguments": line or "", "models": models}
    reader = Recorded({"texts": {str(paths.spec): spec.model_dump_json(by_alias=True),
        str(paths.server): json.dumps(said)}})
    instance = Instance("a", paths, replace(RECORD), "running", 1, JournalState())
    return {claim.id: (claim.verdict, claim.evidence) for claim in vllm_claims(reader, instance)}


@pytest.mark.parametrize("case", GOOD, ids=[" ".join(each["words"])[:60] for each in GOOD])
def test_what_was_asked_is_what_vllm_took(case: dict[str, Any]) -> None:
    asked, reported = from_words(case["words"])[0], read_line(f"(APIServer pid=7) INFO [utils.py:1] {case['line']}")
    assert reported is not None and unasked(asked, reported) == {}
    wrong = [each for each in compare(asked, reported) if not each.same]
    # What equals its default is not in the line, and async scheduling's default is the machine's.
    assert [each.argument.option.name for each in wrong if each.same is False] == []


@pytest.mark.parametrize("case", SWALLOWED, ids=[" ".join(each["words"])[:60] for each in SWALLOWED])
def test_a_swallowed_word_is_a_failure(case: dict[str, Any]) -> None:
    verdict, evidence = claims(case["line"], args={"enforce-eager": True})["vllm.arguments"]
    assert verdict == "failed" and "a word of spec.vllm.args was swallowed: the server has model_tag=" in evidence


def test_a_lost_option_is_a_failure_with_its_place() -> None:
    line = LINES[0]["line"]
    found = claims(line, args={"enforce-eager": True, "dtype": "bfloat16", "kv-cache-memory-bytes": "64M",
                               "max-model-len": 64})
    assert found["vllm.arguments"] == (
        "failed", "spec.vllm.args.max-model-len asked for --max-model-len=64, and the server has 256")
    assert claims(line.replace(", 'enforce_eager': True", ""), args={
        "enforce-eager": True, "dtype": "bfloat16", "kv-cache-memory-bytes": "64M", "max-model-len": 256})[
        "vllm.arguments"][0] == "failed"


def test_all_of_the_quickstart_is_proven() -> None:
    args = {"enforce-eager": True, "dtype": "bfloat16", "kv-cache-memory-bytes": "64M", "max-model-len": 256}
    models = {"data": [{"id": "m", "max_model_len": 256}]}
    found = claims(LINES[0]["line"], models, args=args)
    assert [verdict for verdict, _ in found.values()] == ["proven", "proven"]
    assert found["vllm.powers"][1] == "none beyond serving"
    models["data"][0]["max_model_len"] = 128
    assert claims(LINES[0]["line"], models, args=args)["vllm.arguments"] == (
        "failed", "spec.vllm.args.max-model-len is 256, and /v1/models says 128")


def test_powers_are_shown_with_what_grants_them_and_what_nobody_granted_is_a_failure() -> None:
    line = "non-default args: {'model': '/m', 'kv_events_config': KVEventsConfig(publisher='zmq'), 'worker_cls': 'a.B'}"
    found = claims(line, args={"kv-events-config": {"publisher": "zmq"}, "worker-cls": "a.B"},
        allow=["network", "code"],
                   env={"LD_PRELOAD": "/x"})
    assert found["vllm.powers"] == ("proven", "network by spec.vllm.args.kv-events-config, code by "
                                    "spec.vllm.args.worker-cls, code by spec.vllm.env.LD_PRELOAD")
    found = claims(line, args={"kv-events-config": {"publisher": "zmq"}}, allow=["network"])
    assert found["vllm.powers"] == ("failed", "the server has worker_cls, which the spec does not grant")


@pytest.mark.parametrize("line", [None, "", "INFO started", "non-default args: {'a': ", "non-default args: {" * 9000,
                                  "non-default args: 5", "non-default args: {'a': " + "[" * 5000])
def test_what_is_not_said_is_not_checked(line: str | None) -> None:
    found = claims(line, args={"enforce-eager": True})
    assert {verdict for verdict, _ in found.values()} == {"not-checked"}


def test_a_failed_claim_ends_a_run_with_exit_code_4() -> None:
    from vmtool.claims import Claim
    assert unmet([Claim("vllm.arguments", "failed", "x")], confidential=False) == ["vllm.arguments"]


def test_the_small_server_has_no_arguments() -> None:
    spec = wish(model={"name": "m", "path": "/m", "engine": "transformers"})
    paths = Paths(Path("/i/a"))
    reader = Recorded({"texts": {str(paths.spec): spec.model_dump_json(by_alias=True)}})
    assert list(vllm_claims(reader, Instance("a", paths, replace(RECORD), "running", 1, JournalState()))) == []
