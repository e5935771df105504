"""A real launch: containerd, CNI, vLLM and the canary, looked at from outside."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

# The tests of the API, which share this module's instance.
from tests.integration.api import *  # noqa: F403
from tests.integration.conftest import CACHE, PARSERS, VLLM, MakeSpec
from tests.integration.connect.running import HEAD, UNCONFIDENTIAL, connected
from tests.integration.kills import held, released
from tests.integration.log_writers import writers
from tests.integration.machine import Vmtool, footprint, until
from tests.integration.standin_image import add_blob, archive, real_image
from vmtool.engine.journal import NAME as JOURNAL

PORT = 18431
QUESTION = "What is confidential computing?"


@pytest.fixture(scope="module")
def published() -> int:
    return PORT


@pytest.fixture(scope="module")
def spec(make_spec: MakeSpec) -> Path:
    return make_spec("answers", PORT, **PARSERS)


@pytest.fixture(scope="module")
def running(vmtool: Vmtool, spec: Path) -> Iterator[dict[str, object]]:
    """One instance for this module; afterwards the machine is as before."""
    before = footprint()
    planned = vmtool("run", spec, "--dry-run").out
    ran = vmtool("run", spec)
    yield {"planned": planned, "ran": ran}
    vmtool("rm", "--yes", "answers")
    assert footprint() == before
    assert not (vmtool.state / "instances" / "answers").exists()


def journal(vmtool: Vmtool, name: str) -> list[dict[str, object]]:
    text = (vmtool.state / "instances" / name / JOURNAL).read_text()
    return [json.loads(line) for line in text.splitlines()]


def curl(*options: str, key: Path | None = None, prefix: tuple[str, ...] = ()) -> tuple[str, str]:
    """(HTTP status, body); status 000 when there was no connection."""
    argv = [*prefix, "curl", "-s", "--connect-timeout", "5", "--max-time", "120", "-w", "\n%{http_code}", *options]
    header = f"Authorization: Bearer {key.read_text().strip()}\n" if key else ""
    done = subprocess.run([*argv, *(["-H", "@-"] if key else [])], input=header, capture_output=True, text=True,
                          timeout=150, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return status, body


def completion(address: str, key: Path | None, prefix: tuple[str, ...] = ()) -> tuple[str, str]:
    body = json.dumps({"model": "canary", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]})
    return curl("-H", "Content-Type: application/json", "-d", body, f"http://{address}/v1/chat/completions", key=key,
                prefix=prefix)


def expected(vmtool: Vmtool) -> str:
    canary = json.loads((vmtool.state / "models" / "canary" / "canary.json").read_text())
    assert canary["prompt"] == QUESTION
    return str(canary["expect"])


def test_the_dry_run_printed_what_was_then_done(vmtool: Vmtool, running: dict[str, object]) -> None:
    done = [line for record in journal(vmtool, "answers") if record["event"] == "begin"
            for line in str(record["shell"]).splitlines()]
    planned = [line for line in str(running["planned"]).splitlines() if not line.startswith("# ")]
    assert len(done) > 25
    assert planned == done


def test_curl_from_the_host_gets_a_completion(vmtool: Vmtool, running: object) -> None:
    key = vmtool.state / "instances" / "answers" / "secret" / "api-key"
    status, body = completion(f"127.0.0.1:{PORT}", key)
    assert status == "200", body
    assert json.loads(body)["choices"][0]["message"]["content"].strip() == expected(vmtool)


def test_a_named_token_is_let_in_by_the_running_container_until_it_is_revoked(
        vmtool: Vmtool, running: object, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(vmtool("token", "add", "ci", "answers", "--requests", "60").out)
    status, _ = completion(f"127.0.0.1:{PORT}", tmp_path / "token")
    assert status == "200"
    [row] = [row for row in vmtool("token", "list", "answers", "--json").json["tokens"] if row["name"] == "ci"]
    assert (row["in_effect"], row["asked"]) == (True, 1)
    assert row["completion_tokens"] > 0
    vmtool("token", "revoke", "ci", "answers")
    assert completion(f"127.0.0.1:{PORT}", tmp_path / "token")[0] == "401"


def test_without_the_key_or_beside_the_api_there_is_nothing(running: object) -> None:
    assert completion(f"127.0.0.1:{PORT}", None)[0] == "401"
    for path in ("/metrics", "/docs", "/tokenize", "/invocations", "/version"):
        assert curl(f"http://127.0.0.1:{PORT}{path}")[0] in ("401", "404"), path


def test_no_other_address_leads_to_it(vmtool: Vmtool, running: object) -> None:
    """A neighbour machine (a namespace on a link of its own) reaches neither the published port nor the container."""
    key = vmtool.state / "instances" / "answers" / "secret" / "api-key"
    result = json.loads((vmtool.state / "instances" / "answers" / "net" / "result.json").read_text())
    inside = result["ips"][0]["address"].partition("/")[0]
    namespace = ("ip", "netns", "exec", "vmtest-far")
    setup = ("ip netns add vmtest-far", "ip link add vmtest-near type veth peer name far netns vmtest-far",
             "ip addr add 198.51.100.1/30 dev vmtest-near", "ip link set vmtest-near up",
             "ip -n vmtest-far addr add 198.51.100.2/30 dev far", "ip -n vmtest-far link set far up",
             "ip -n vmtest-far route add default via 198.51.100.1")
    try:
        for line in setup:
            subprocess.run(line.split(), check=True, timeout=60)
        with subprocess.Popen(["python3", "-m", "http.server", "-b", "198.51.100.1", str(PORT + 9)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/var/empty"
                              if Path("/var/empty").is_dir() else "/mnt") as open_door:
            end = time.monotonic() + 60
            while curl(f"http://198.51.100.1:{PORT + 9}/", prefix=namespace)[0] != "200":
                assert open_door.poll() is None and time.monotonic() < end, "the link itself works"
                time.sleep(0.05)
            open_door.terminate()
        assert completion(f"198.51.100.1:{PORT}", key)[0] == "000", "the host itself, by another of its addresses"
        assert completion(f"198.51.100.1:{PORT}", key, namespace)[0] == "000", "the published port from outside"
        assert completion(f"{inside}:8000", key, namespace)[0] in ("000", "403"), "the container from outside"
        assert completion(f"127.0.0.1:{PORT}", key, namespace)[0] == "000"
    finally:
        subprocess.run(["ip", "link", "delete", "vmtest-near"], check=False, timeout=60)
        subprocess.run(["ip", "netns", "delete", "vmtest-far"], check=False, timeout=60)


def test_chat_answers_to_the_letter(vmtool: Vmtool, running: object) -> None:
    assert vmtool("chat", "answers", QUESTION).out == expected(vmtool) + "\n"
    assert vmtool("infer", "answers", QUESTION, "--stream").out == expected(vmtool) + "\n"
    document = vmtool("chat", "answers", QUESTION, "--json").json
    assert (document["answer"], document["tee"], document["schema"]) == (expected(vmtool), "none", "vmtool/v1")


def test_every_claim_but_the_tee_is_proven(vmtool: Vmtool, running: object) -> None:
    claims = {claim["id"]: claim["verdict"] for claim in vmtool("status", "answers", "--json").json["claims"]}
    assert claims.pop("tee") == "failed"
    assert len(claims) == 13
    assert set(claims.values()) == {"proven"}


def test_what_was_verified_on_the_way_is_typed_with_the_same_result(vmtool: Vmtool, running: object) -> None:
    """The lines of `RequireClaims`; the key comes only after the first of them."""
    vmtool("status", "answers", "--before-key")
    vmtool("status", "answers", "--proof")
    lines = [str(record["shell"]) for record in journal(vmtool, "answers") if record["event"] == "begin"]
    places = [next(number for number, line in enumerate(lines) if word in line)
              for word in (" run --detach", "--before-key", "receive_keys", "--proof")]
    assert places == sorted(places)


@pytest.mark.slow
def test_connect_reaches_it_when_the_policy_allows_what_is_not_confidential(vmtool: Vmtool, running: object,
                                                                              tmp_path: Path) -> None:
    key = (vmtool.state / "instances" / "answers" / "secret" / "api-key").read_text().strip()
    with connected(tmp_path, f"http://127.0.0.1:{PORT}", UNCONFIDENTIAL) as local:
        assert (local.said["confidential"], local.said["evidence_kind"]) == (False, "none")
        client = openai.OpenAI(base_url=local.url, api_key=key, max_retries=0)
        said = client.chat.completions.create(model="canary", temperature=0, messages=[
            {"role": "user", "content": QUESTION}])
        assert (said.choices[0].message.content or "").strip() == expected(vmtool)
    (tmp_path / "tee.yaml").write_text(f"{HEAD}reference: {{snp: {{measurement: '{'ab' * 48}'}}}}\n")
    refused = vmtool("connect", "answers", "--policy", tmp_path / "tee.yaml", "--check", status=2).err
    assert "there is no key that evidence could be bound to" in refused and "allow_unconfidential: true" in refused


def test_a_bundle_of_it_is_checked_by_another_machine_and_has_none_of_its_secrets(
        vmtool: Vmtool, running: object, tmp_path: Path) -> None:
    bundle, elsewhere = tmp_path / "answers.tar", Vmtool(tmp_path / "elsewhere")
    root = vmtool("status", "answers", "--proof", "-o", bundle, "--json").json["root"]
    assert "it is there already" in vmtool("status", "answers", "--proof", "-o", bundle, status=2).err
    found = elsewhere("attest", "verify", bundle, "--digest", root, "--json").json
    claims = {claim["id"]: claim["verdict"] for each in found["evidence"] for claim in each["claims"]}
    assert claims.pop("launch.tee") == "failed"
    assert len(claims) == 22 and set(claims.values()) == {"proven"}
    data = bundle.read_bytes()
    secret = vmtool.state / "instances" / "answers" / "secret"
    assert not [word for path in secret.rglob("*") if path.is_file() for word in path.read_bytes().split()
                if len(word) > 15 and word in data]
    bundle.write_bytes(data.replace(b'"verdict": "failed"', b'"verdict": "proven"'))
    assert "launch.tee" in elsewhere("attest", "verify", bundle, status=4).err


def test_an_image_that_would_run_as_root_is_refused(vmtool: Vmtool, make_spec: MakeSpec, standin: str,
                                                    tmp_path: Path) -> None:
    """Without USER its processes would be root's on this host, with the key."""
    [real] = (CACHE / "images" / "vllm-cpu").glob("*.tar")
    manifest, config = real_image(real)
    del config["config"]["User"]
    blobs: dict[str, bytes] = {}
    manifest["config"] = add_blob(blobs, json.dumps(config).encode(), manifest["config"]["mediaType"])
    top = add_blob(blobs, json.dumps(manifest).encode(), manifest["mediaType"])
    name = "docker.io/vmtool/rooted:1"
    vmtool("image", "import", archive(tmp_path / "rooted.tar", top, name, blobs))
    try:
        refused = vmtool("run", make_spec("rooted", PORT + 3, image=name), status=2)
        assert f"spec.image: {name} would run as root (end its Containerfile with: USER 65532:65532)" in refused.err
        assert not (vmtool.state / "instances" / "rooted" / JOURNAL).exists()
    finally:
        vmtool("image", "rm", name)


def test_the_summary_says_that_it_is_not_confidential(running: dict[str, object]) -> None:
    ran = running["ran"]
    assert "This launch is NOT confidential." in ran.out  # type: ignore[attr-defined]


def test_ps_logs_and_exec_show_it(vmtool: Vmtool, running: object) -> None:
    [row] = vmtool("ps", "--json").json["instances"]
    assert (row["name"], row["state"], row["tee"], row["address"]) == (
        "answers", "running", "", f"http://127.0.0.1:{PORT}")
    assert "vllm" in vmtool("logs", "answers", "-n", "100000").out.lower()
    assert "ctr --address" in vmtool("logs", "answers", "--host").out
    assert vmtool("exec", "answers", "--", "id", "-u").out == "65532\n"
    assert vmtool("exec", "answers", "--", "sh", "-c", "exit 7", status=7).out == ""
    assert "Read-only file system" in vmtool("exec", "answers", "--", "sh", "-c", "touch /x", status=1).err


def test_the_key_is_in_no_command_line_journal_or_log(vmtool: Vmtool, running: object) -> None:
    directory = vmtool.state / "instances" / "answers"
    key = (directory / "secret" / "api-key").read_text().strip()
    argvs = subprocess.run(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"], capture_output=True,
                           timeout=60, check=False).stdout
    assert key.encode() not in argvs
    holders = [path.name for path in directory.rglob("*") if path.is_file() and key in path.read_text(errors="replace")]
    assert sorted(holders) == ["access", "api-key"], "the key, and what is handed over"
    manager = (directory / "secret" / "manager-key").read_text().strip()
    assert manager.encode() not in argvs
    assert [path.name for path in directory.rglob("*") if path.is_file()
            and manager in path.read_text(errors="replace")] == ["manager-key"]
    for path in (directory, *directory.rglob("*")):
        if path.name != "container.pid":  # written by ctr, in a closed directory
            assert path.stat().st_mode & 0o077 == 0, path


def test_its_log_is_bounded_and_a_full_disk_ends_nothing(vmtool: Vmtool, running: object) -> None:
    directory = vmtool.state / "instances" / "answers"
    log, pid = directory / "log" / "guest.log", int((directory / "container.pid").read_text().split()[0])
    _, writer = writers(directory)
    with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as said:
        for _ in range(50):
            said.write(b"x" * (1 << 20))
        until(lambda: log.stat().st_size > 50 << 20, "it is not written")
        assert log.stat().st_blocks * 512 < 40 << 20
        # To the writer as a disk that takes no more.
        old = resource.prlimit(writer, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
        said.write(b"y" * (1 << 20))  # more than pipes hold
        assert vmtool("chat", "answers", "What is confidential computing?").out
        resource.prlimit(writer, resource.RLIMIT_FSIZE, old)
        said.write(b"room again\n")
    until(lambda: "room again" in vmtool("logs", "answers", "-n", "5").out, "it does not go on")
    assert re.search(r"vmtool: \d{7} bytes are missing here: File too large", vmtool("logs", "answers", "-n", "9").out)
    assert "log-lost" in vmtool("events", "answers").out


def test_a_second_run_of_the_same_spec_has_nothing_to_do(vmtool: Vmtool, spec: Path, running: object) -> None:
    assert "runs already" in vmtool("run", spec).out
    vmtool("plan", spec, "--exit-code")


def test_another_spec_of_the_same_name_is_refused(vmtool: Vmtool, make_spec: MakeSpec, spec: Path,
                                                  running: object) -> None:
    text = spec.read_text()
    try:
        make_spec("answers", PORT, **VLLM, resources={"memory": "3Gi", "cpus": 2})
        refused = vmtool("run", spec, status=2)
        assert "runs already, with another spec" in refused.err
        assert "hint: vmtool rm answers" in refused.err
    finally:
        spec.write_text(text)


def test_rm_of_a_running_instance_wants_a_yes(vmtool: Vmtool, running: object) -> None:
    assert "hint: vmtool rm --yes answers" in vmtool("rm", "answers", status=2).err


def test_a_taken_port_is_told_before_anything_is_done(vmtool: Vmtool, make_spec: MakeSpec, running: object) -> None:
    refused = vmtool("run", make_spec("second", PORT), status=3)
    assert f"published port 127.0.0.1:{PORT}:8000" in refused.err
    assert not (vmtool.state / "instances" / "second" / JOURNAL).exists()


def test_two_instances_at_once_and_stop_and_start(vmtool: Vmtool, make_spec: MakeSpec, running: object,
                                                  small_server: dict[str, object]) -> None:
    before = footprint()
    other = make_spec("second", PORT + 1, **small_server)
    vmtool("run", other)
    try:
        assert vmtool("chat", "second", QUESTION).out == vmtool("chat", "answers", QUESTION).out
        vmtool("stop", "second")
        rows = {row["name"]: row["state"] for row in vmtool("ps", "--json").json["instances"]}
        assert rows == {"answers": "running", "second": "stopped"}
        vmtool("status", "second", status=1)
        assert "does not run: stopped" in vmtool("chat", "second", QUESTION, status=1).err
        vmtool("run", other)
        assert vmtool("chat", "second", QUESTION).out == expected(vmtool) + "\n"
    finally:
        vmtool("rm", "--yes", "second")
    assert footprint() == before
    assert vmtool("chat", "answers", QUESTION).out == expected(vmtool) + "\n", "the first one is as before"


BOMB = """import threading, time
threading.stack_size(64 << 10)
begun = 0
try:
    while begun < 40_000:
        threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
        begun += 1
except RuntimeError:
    pass
print(begun, flush=True)
import os
os._exit(0)
"""


def test_a_fork_bomb_stays_in_its_container(vmtool: Vmtool, make_spec: MakeSpec) -> None:
    """What takes all processes and threads that it can get: its own limit ends it, not the host's."""
    vmtool("run", make_spec("bomb"))
    try:
        begun = int(vmtool("exec", "bomb", "--", "python3", "-P", "-c", BOMB).out)
        assert 10_000 < begun < 16_384
        # The workload has processes again, and the host never lacked one. By its exit status, since containerd's shim
        # waits two seconds for the last of the output, which may be too short while thousands of processes end.
        vmtool("exec", "bomb", "--", "python3", "-P", "-c", "raise SystemExit(7)", status=7)
    finally:
        vmtool("rm", "--yes", "bomb")


@pytest.mark.timing
def test_a_second_vmtool_is_told_who_is_at_work(vmtool: Vmtool, make_spec: MakeSpec) -> None:
    spec = make_spec("busy", PORT + 2)
    with held(vmtool, "begin ", "run", spec) as first:
        refused = vmtool("run", spec, status=3)
        assert f"busy: vmtool run busy (pid {first.pid}" in refused.err
        assert vmtool("recover").err == "nothing to recover\n", "what is at work is left alone"
        status, error = released(first, signal.SIGINT)
    assert status == 130, error
    rows = {row["name"]: row["state"] for row in vmtool("ps", "--json").json["instances"]}
    assert rows["busy"] == "failed"
    assert "stopped by SIGINT" in vmtool("status", "busy", status=1).out
    vmtool("rm", "busy")
