"""What vLLM must not be asked for beside an encrypted model: in the spec, and again in the entrypoint."""

from __future__ import annotations

import pytest

from vmtool.serving.arguments import parse
from vmtool.serving.encrypted.vllm_arguments import environment_problems, worker_count
from vmtool.serving.kbs.broker_source import BrokerSource

OWN = ["--model", "/models/m", "--served-model-name", "m", "--listen", "0.0.0.0:8000", "--api-key-file", "/k"]
SIGNED = [*OWN, "--hardening", "strict", "--model-signer", "A" * 43 + "=:signer-1"]
FORMAT = "--load-format=cryptotensors"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        parse(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("words", "why"), [
    ([], "needs --load-format cryptotensors"), (["--load-format", "auto"], "needs --load-format cryptotensors"),
    ([FORMAT, "--trust-remote-code"], "code of others"),
    ([FORMAT, "--model-loader-extra-config", '{"num_threads": 2}'], "other loaders"),
    ([FORMAT, "--speculative-config", '{"method": "eagle"}'], "a draft model"),
    ([FORMAT, "--speculative-config", '{"method": "ngram", "model": "/models/files/draft"}'], "a draft model"),
    ([FORMAT, "--speculative-config.model", "/models/files/draft"], "a draft model"),
    ([FORMAT, "--spec-model", "/models/files/draft"], "a draft model"),
    ([FORMAT, "--spec-method", "mtp"], "draft model"),
    ([FORMAT, "--weight-transfer-config", '{"backend": "nccl"}'], "takes weights from elsewhere"),
    ([FORMAT, "--worker-extension-cls", "x.Y"], "code of others"), ([FORMAT, "--what-is-this"], "code of others"),
    ([FORMAT, "--logits-processors", "x:Y"], "code of others"),
])
def test_refused(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    allowed = [word for power in ("code", "model-code", "files", "network", "unknown") for word in ("--allow", power)]
    assert why in refused([*SIGNED, *allowed, "--", *words], capsys)


@pytest.mark.parametrize("load_format", ["ipc_cache", "sharded_state", "tensorizer", "safetensors", "dummy",
                                         "runai_streamer", "modelexpress"])
def test_no_other_load_format_is_left(load_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cryptotensors" in refused([*SIGNED, "--", "--load-format", load_format], capsys)


def test_the_load_format_is_not_for_a_model_in_clear(capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs --model-signer" in refused([*OWN, "--", FORMAT], capsys)


def test_an_encrypted_model_is_served_from_a_hardened_container_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs --hardening" in refused([*OWN, *SIGNED[-2:], "--", FORMAT], capsys)
    assert "--model-signer" in refused([*OWN, "--hardening", "strict", "--model-signer", "x", "--", FORMAT], capsys)


def test_what_loads_no_second_model_is_allowed() -> None:
    words = [FORMAT, "--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2}', "-tp", "2"]
    assert parse([*SIGNED, "--", *words]).signer == ("A" * 43 + "=", "signer-1")


@pytest.mark.parametrize(("words", "count"), [
    ([], 1), (["-tp", "2"], 2), (["-tp=2", "--pipeline-parallel-size", "3"], 6), (["-dp", "2", "-tp", "2"], 4),
    (["-dp", "4", "--data-parallel-size-local", "2"], 2), (["--prefill-context-parallel-size", "2"], 2)])
def test_each_process_that_reads_the_model_is_counted(words: list[str], count: int) -> None:
    assert worker_count(words) == count


@pytest.mark.parametrize(("name", "value"), [
    ("HF_TRUST_REMOTE_CODE", "1"), ("TRUST_REMOTE_CODE", "true"), ("vllm_trust_remote_code", "yes"),
    ("VLLM_PLUGINS", "other"), ("VLLM_SERVER_DEV_MODE", "1"), ("VLLM_TEST_FORCE_LOAD_FORMAT", "auto"),
    ("VLLM_ALLOW_INSECURE_SERIALIZATION", "1"), ("LD_PRELOAD", "/x.so"), ("VLLM_DEBUG_DUMP_PATH", "/tmp")])
def test_a_variable_that_opens_another_way_is_refused_by_its_name(name: str, value: str) -> None:
    assert [problem.partition(":")[0] for problem in environment_problems({"HOME": "/tmp", name: value})] == [name]


def test_the_images_own_environment_is_fine() -> None:
    own = {"VLLM_PLUGINS": "", "HF_TRUST_REMOTE_CODE": "0", "PYTHONPATH": "/opt/vmtool"}
    assert not list(environment_problems(own))


def test_the_broker_of_a_models_key(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model-key-resource", "kbs:///demo/llama/key", "--model-key-broker", "https://kbs.lab", "--model-key-ca",
             "UEVN", "--allow-unconfidential"]
    assert parse([*SIGNED, *words, "--", FORMAT]).key_source == BrokerSource(
        "demo/llama/key", "https://kbs.lab", "PEM", allow_unconfidential=True)
    assert parse([*SIGNED, "--", FORMAT]).key_source is None
    assert "needs --model-signer" in refused([*OWN, *words], capsys)
    assert "--model-key-resource" in refused([*SIGNED, "--model-key-resource", "../x"], capsys)
    assert "--model-key-ca" in refused([*SIGNED, "--model-key-ca", "?"], capsys)
