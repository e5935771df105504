"""An encrypted model in a real container: hardened, its key handed over, and the answer as of the plain one."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import IMAGE, VLLM, MakeSpec
from tests.integration.key_broker import RESOURCE, Broker, Encrypted
from tests.integration.kills import signalled
from tests.integration.machine import Vmtool
from tests.unit.models.encryption.make import Owner
from vmtool.containerd.container import KEY

QUESTION = "What is confidential computing?"


@pytest.fixture(scope="module")
def encrypted(vmtool: Vmtool, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Encrypted:
    return Encrypted(tmp_path_factory.mktemp("encrypted"), vmtool, model)


@pytest.fixture
def launched(vmtool: Vmtool, untouched: None) -> Iterator[Vmtool]:
    yield vmtool
    vmtool("rm", "--yes", "sealed", status=None)


@pytest.fixture
def broker(launched: Vmtool, encrypted: Encrypted, tmp_path: Path) -> Iterator[Broker]:
    try:
        yield Broker(launched, tmp_path, {RESOURCE: (encrypted.owner.key, {"tee": ["sample"]})})
    finally:
        launched("rm", "--yes", "sealed", status=None)
        launched("net", "del", "broker", status=None)


def test_a_broker_releases_the_key_to_the_container_that_this_host_never_gives_one(
        launched: Vmtool, encrypted: Encrypted, broker: Broker, make_spec: MakeSpec) -> None:
    """With a stand-in of vLLM. That the broker is not there is said with its address."""
    spec = make_spec("sealed", **broker.spec(encrypted))
    with broker.running() as child:
        assert child.stderr and f"NOT CONFIDENTIAL: {RESOURCE}" in child.stderr.readline()
        launched("run", spec)
        found = claims(launched)
        assert found["model.signature"][0] == found["model.encrypted"][0] == "proven"
        assert broker.decisions() == [("attest", "granted"), ("resource", "released")]
        assert "evidence is by the sample attester, which proves nothing" in launched("logs", "sealed").out
        assert_nowhere(launched, encrypted)
        launched("rm", "--yes", "sealed")
    gone = launched("run", spec, status=4).err
    assert f"no key for the model came from its broker: auth: https://{broker.address}:8443: Connection refused" in gone


@pytest.mark.slow
def test_what_a_broker_refuses_is_said_with_step_and_reason(launched: Vmtool, encrypted: Encrypted, broker: Broker,
                                                            make_spec: MakeSpec) -> None:
    with broker.running():
        other = make_spec("sealed", **broker.spec(encrypted, "demo/other/key"))
        refused = launched("run", other, status=4).err
    assert "is refused: no key for the model came from its broker: resource: the broker refused" in refused
    assert "PluginInternalError: there is no such resource, or it cannot be read" in refused


@pytest.mark.slow
def test_vllm_answers_as_with_the_plain_model_when_a_broker_has_the_key(
        launched: Vmtool, encrypted: Encrypted, broker: Broker, make_spec: MakeSpec, model: Path) -> None:
    expected = json.loads((model / "canary.json").read_text())
    answers = []
    with broker.running():
        for changes in ({}, broker.spec(encrypted)):
            launched("run", make_spec("sealed", **{**VLLM, **changes}), timeout=900)
            answers.append(launched("chat", "sealed", expected["prompt"]).out)
            found = claims(launched)
            launched("rm", "--yes", "sealed")
    assert answers == [expected["expect"] + "\n"] * 2
    assert found["model.encrypted"][0] == "proven"


def claims(vmtool: Vmtool) -> dict[str, tuple[str, str]]:
    return {each["id"]: (each["verdict"], each["evidence"])
            for each in vmtool("status", "sealed", "--json").json["claims"]}


def forms(secret: bytes) -> list[bytes]:
    """How a key could be written."""
    return [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret).rstrip(b"=")]


def assert_nowhere(vmtool: Vmtool, encrypted: Encrypted) -> None:
    """The master key is in no argument, environment, journal, log or file of the state directory, and in nothing that
    was written since the keys were made: containers' own layers, temporary files, cores."""
    seen = subprocess.run(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"], capture_output=True,
                          timeout=300, check=False).stdout
    files = [path for path in (vmtool.state / "instances" / "sealed").rglob("*") if path.is_file()]
    assert {"guest.log", "spec.json", "access"} <= {path.name for path in files}
    places = [place for place in (vmtool.state, *map(Path, ("/tmp", "/run", "/var/tmp", "/var/log", "/dev/shm",
                                                            "/var/lib/systemd/coredump"))) if place.exists()]
    places += [Path(f"/proc/{pid}/root/{name}") for pid in processes("vmtool.serving.entrypoint")
               for name in ("tmp", "dev/shm", Path(KEY).parent.relative_to("/"))]
    new = subprocess.run(["find", *places, "-type", "f", "-newer", encrypted.owner.sign, "-size", "-200M", "-print0"],
                         capture_output=True, timeout=300, check=False).stdout.decode().split("\0")
    files += [path for path in map(Path, filter(None, new)) if path != encrypted.owner.key]
    for form in forms(encrypted.owner.master.secret):
        assert form not in seen
        assert [path for path in files if form in content(path)] == []


def content(path: Path) -> bytes:
    """Of a file that may be gone by now."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def test_a_wrong_key_is_refused_before_the_engine_starts(launched: Vmtool, encrypted: Encrypted, make_spec: MakeSpec,
                                                         tmp_path: Path) -> None:
    other = Owner(tmp_path)
    model = encrypted.model()
    model["encryption"]["key"]["file"] = str(other.key)
    failed = launched("run", "--keep-on-failure", make_spec("sealed", model=model), status=4)
    assert "error: the encrypted model is refused: the key does not open this file" in failed.err
    log = launched("logs", "sealed").out
    assert len([line for line in log.splitlines() if "the encrypted model is refused" in line]) == 1
    assert "starting vLLM" not in log
    for form in forms(other.master.secret):
        assert form.decode("latin-1") not in log + failed.err


@pytest.mark.parametrize("profile", [
    pytest.param("default", marks=pytest.mark.slow), pytest.param("ipc-host", marks=pytest.mark.slow), "private-shm"])
def test_each_profile_is_started_and_found_from_inside(launched: Vmtool, encrypted: Encrypted, make_spec: MakeSpec,
                                                       profile: str, tmp_path: Path) -> None:
    """With a stand-in of vLLM; the key comes through a pipe."""
    pipe = tmp_path / "pipe"
    subprocess.run(["mkfifo", "-m", "600", pipe], check=True)
    writes = threading.Thread(target=lambda: pipe.write_bytes(encrypted.owner.key.read_bytes()), daemon=True)
    writes.start()
    model = encrypted.model()
    model["encryption"]["key"]["file"] = str(pipe)
    launched("run", make_spec("sealed", model=model, hardening={"profile": profile}))
    writes.join(10)
    found = claims(launched)
    assert found["model.signature"] == (
        "proven", f"the entrypoint checked manifest and headers: signed by {encrypted.owner.signer.kid}")
    assert found["model.encrypted"][0] == "proven" and "encrypted with aes256gcm" in found["model.encrypted"][1]
    assert_nowhere(launched, encrypted)


ARGS: Any = VLLM["vllm"]
# On a CPU vLLM must be told which cores each worker has.
TWO = {"vllm": {"args": ARGS["args"] | {"tensor-parallel-size": 2}, "env": {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}},
       "resources": {"memory": "6Gi", "cpus": 2}}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"hardening": {"profile": "private-shm"}}, {"hardening": {"profile": "ipc-host"}}, TWO],
    ids=["private-shm", "ipc-host", "two-workers"])
def test_vllm_answers_as_with_the_plain_model(launched: Vmtool, encrypted: Encrypted, make_spec: MakeSpec, model: Path,
                                              changes: dict[str, Any]) -> None:
    launched("run", make_spec("sealed", **{**VLLM, **changes, "model": encrypted.model()}), timeout=900)
    expected = json.loads((model / "canary.json").read_text())
    assert launched("chat", "sealed", expected["prompt"]).out == expected["expect"] + "\n"
    found = claims(launched)
    assert {name for name, (verdict, _) in found.items() if verdict != "proven"} == {"tee"}
    workers = 2 if "vllm" in changes else 1
    log = launched("logs", "sealed", "-n", "100000").out
    assert f"{workers} worker{'s' if workers > 1 else ''} got the model's keys; nobody else gets them" in log
    assert_nowhere(launched, encrypted)


@pytest.mark.slow
def test_the_small_server_answers_too_and_again_after_it_died(launched: Vmtool, encrypted: Encrypted,
                                                              make_spec: MakeSpec, model: Path) -> None:
    launched("run", make_spec("sealed", image=IMAGE, model=encrypted.model(engine="transformers")), timeout=600)
    expected = json.loads((model / "canary.json").read_text())
    assert launched("chat", "sealed", expected["prompt"]).out == expected["expect"] + "\n"
    kill = ("import os, signal; [os.kill(int(each), signal.SIGKILL) for each in os.listdir('/proc') if each.isdigit() "
            "and each not in ('1', str(os.getpid())) "
            "and b'transformers_engine' in open(f'/proc/{each}/cmdline', 'rb').read()]")
    launched("exec", "sealed", "--", "python3", "-P", "-c", kill)
    answered(launched, expected["prompt"], expected["expect"])
    assert launched("logs", "sealed", "-n", "1000").out.count("got the model's keys") == 2


def processes(word: str) -> list[int]:
    """Those of containers whose command line or title has the word; the entrypoint is their first."""
    found = subprocess.run(["pgrep", "-f", word], capture_output=True, text=True, timeout=20, check=False).stdout
    return [int(pid) for pid in found.split()]


@pytest.mark.slow
def test_a_crash_of_each_process_leaves_the_key_nowhere(launched: Vmtool, encrypted: Encrypted, broker: Broker,
                                                        make_spec: MakeSpec, model: Path) -> None:
    """PID 1 of a container takes no SIGSEGV from outside: it is killed."""
    expected = json.loads((model / "canary.json").read_text())
    changes = broker.spec(encrypted)
    changes["model"] |= {"engine": "transformers"}
    spec = make_spec("sealed", image=IMAGE, **changes)
    with broker.running() as serving:
        crashed = signalled(launched, "SIGSEGV", "after", "step wait until the server is healthy", "run", spec)
        assert subprocess.run(crashed, capture_output=True, timeout=300, check=False).returncode == -signal.SIGSEGV
        assert_nowhere(launched, encrypted)
        launched("recover", timeout=600)
        launched("run", spec, timeout=600)
        for number in (signal.SIGSEGV, signal.SIGKILL):
            before = launched("logs", "sealed", "-n", "1000").out.count("got the model's keys")
            for pid in processes("transformers_engine"):
                os.kill(pid, number)
            answered(launched, expected["prompt"], expected["expect"])
            assert launched("logs", "sealed", "-n", "1000").out.count("got the model's keys") == before + 1
            assert_nowhere(launched, encrypted)
        serving.send_signal(signal.SIGSEGV)
        assert serving.wait(30) == -signal.SIGSEGV
        pid = next(each["pid"] for each in launched("ps", "--json").json["instances"] if each["name"] == "sealed")
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert next(line.split()[4:6] for line in limits.splitlines() if "core file" in line) == ["0", "0"]
        os.kill(pid, signal.SIGKILL)
        assert_nowhere(launched, encrypted)
    launched("rm", "--yes", "sealed")


def answered(vmtool: Vmtool, question: str, expected: str) -> None:
    """Ask until the server, which has just died, is there again."""
    end = time.monotonic() + 120
    while (said := vmtool("chat", "sealed", question, status=None)).status:
        assert "status 503" in said.err and time.monotonic() < end, said.err
        time.sleep(0.2)
    assert said.out == expected + "\n"
