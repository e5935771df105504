"""The entrypoint's command line: what is refused, however it is spelled."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from vmtool.serving import gateway
from vmtool.serving.arguments import engine_command, parse, refusal
from vmtool.serving.vllm_options import GRANTED

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t0003CF0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t00000000\t0103CF0A\t0003\t0\t0\t0\t00000000\t0\t0\t0
"""
OWN = ["--model", "/models/m", "--served-model-name", "m", "--listen", "0.0.0.0:8000", "--api-key-file", "/k"]


def test_the_host_may_be_named_by_the_guests_own_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    routes = tmp_path / "route"
    monkeypatch.setattr(gateway, "ROUTES", routes)
    words = [*OWN, "--allow-from", "gateway", "--manage", "0.0.0.0:9464", "--manage-from", "gateway"]
    routes.write_text(ROUTES)
    arguments = parse(words)
    assert arguments.allow_from == arguments.manage_from == (ipaddress.ip_network("10.207.3.1/32"),)
    for without in ("", ROUTES[:ROUTES.rindex("eth0")]):
        routes.write_text(without)
        with pytest.raises(SystemExit):
            parse(words)
        assert "argument --allow-from: there is no default route" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse([*OWN, "--allow-from", "gate"])


def test_what_comes_after_the_dashes_is_vllms() -> None:
    arguments = parse([*OWN, "--allow-from", "10.0.0.1/32", "--allow-from", "fd00::/64", "--", "--dtype", "bfloat16"])
    assert arguments.vllm == ("--dtype", "bfloat16")
    assert arguments.listen == ("0.0.0.0", 8000)
    assert arguments.allow_from == (ipaddress.ip_network("10.0.0.1"), ipaddress.ip_network("fd00::/64"))
    assert engine_command(arguments, "python3", Path("/tmp/d/s")) == (
        "python3", "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", "/models/m", "--served-model-name", "m",
        "--uds", "/tmp/d/s", "--disable-uvicorn-access-log", "--disable-fastapi-docs", "--dtype", "bfloat16")


@pytest.mark.parametrize(("words", "why"), [
    (["--host", "0.0.0.0"], "--host is decided elsewhere"), (["--port=80"], "--port is decided elsewhere"),
    (["--por=80"], "--allow unknown"), (["--api_key", "x"], "--api-key is a secret"),
    (["--ssl-keyfile", "k"], "--ssl-keyfile is a secret"), (["--ssl_something_new", "x"], "--allow unknown"),
    (["--middleware", "m.x"], "--allow code"), (["--config", "f.yaml"], "--config is decided elsewhere"),
    (["--headless"], "another way in"), (["--HOST", "x"], "unknown option"), (["--uds", "/x"], "another way in"),
    (["--model", "/other"], "spec.model.path"), (["--u=/x"], "--allow unknown"),
    (["--served_model_name", "x"], "spec.model.name"), (["--trust-remote-code"], "--allow model-code"),
    (["--trust_remote_code"], "--allow model-code"), (["--trust"], "--allow unknown"),
    (["--dtype", "auto", "--", "--port"], "unknown option '--'"), (["stray"], "belongs to no option"),
    (["--kv-events-config", '{"publisher": "zmq"}'], "--allow network"),
    (["--tool-parser-plugin", "x"], "--allow code"),
    (["--kv-events-config.publisher", "zmq"], "--allow network"), (["--enable-log-requests"], "--allow logging"),
])
def test_what_can_do_more_than_serve_is_refused(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why in refusal(words)
    with pytest.raises(SystemExit) as stopped:
        parse([*OWN, "--", *words])
    assert stopped.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    [], ["--dtype", "bfloat16"], ["--model-impl", "vllm"], ["--max-model-len=256"], ["-tp", "2"],
    ["--hf-overrides", '{"host": 1}'], ["--kv-cache-memory-bytes", "64M"], ["--enforce-eager"],
])
def test_other_arguments_pass(words: list[str]) -> None:
    assert refusal(words) == ""


def test_powers_can_be_allowed() -> None:
    allowed = ["--allow", "model-code", "--allow", "network"]
    words = ("--trust-remote-code", "--kv-events-config.publisher", "zmq")
    assert parse([*OWN, *allowed, "--", *words]).vllm == words
    assert "--api-key is a secret" in refusal(["--api-key", "x"], GRANTED)


@pytest.mark.parametrize("listen", ["8000", "0.0.0.0", "0.0.0.0:0", "0.0.0.0:65536", "host:80", "0.0.0.0:x"])
def test_the_address_must_be_one(listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [listen if word == "0.0.0.0:8000" else word for word in OWN]
    with pytest.raises(SystemExit):
        parse(words)
    assert "--listen" in capsys.readouterr().err


def test_an_ipv6_address_is_written_in_brackets() -> None:
    words = ["[::1]:8000" if word == "0.0.0.0:8000" else word for word in OWN]
    assert parse(words).listen == ("::1", 8000)


def test_the_small_server_takes_vllms_place(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = parse([*OWN, "--engine", "transformers"])
    assert engine_command(arguments, "python3", Path("/tmp/d/s")) == (
        "python3", "-P", "-m", "vmtool.serving.transformers_engine", "--model", "/models/m", "--served-model-name", "m",
        "--uds", "/tmp/d/s")
    with pytest.raises(SystemExit):
        parse([*OWN, "--engine", "transformers", "--", "--dtype", "bfloat16"])
    assert "transformers serves" in capsys.readouterr().err
