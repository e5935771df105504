"""Encrypting and verifying a model by real processes: as the page says, and killed on the way."""

from __future__ import annotations

import base64
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.kills import killed
from tests.integration.machine import Vmtool
from tests.pages import ROOT, commands
from tests.unit.models.encryption.make import Owner, plain_file, plain_model

PAGE = ROOT / "docs" / "encrypted-models.md"
SECOND = "model-00002-of-00002.safetensors"


def test_the_page_typed_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    plain_model(tmp_path / "plain")
    typed = [command.text for command in commands(PAGE)]
    assert len(typed) == 11
    vmtool = " ".join(tool.argv())
    for line in typed:
        assert line.startswith("vmtool ")
        done = subprocess.run(["sh", "-ec", line.replace("vmtool", vmtool, 1)], cwd=tmp_path, capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert sorted(path.name for path in (tmp_path / "encrypted").iterdir()) == [
        "config.json", "model-00001-of-00002.safetensors", SECOND, "vmtool-manifest.json"]


@pytest.mark.parametrize("record", [f"step encrypt {SECOND}", "step sign the manifest", "step copy config.json"])
def test_killed_it_goes_on_where_it_ended(tmp_path: Path, record: str) -> None:
    tool = Vmtool(tmp_path / "state")
    owner, source, out = Owner(tmp_path), plain_model(tmp_path / "plain"), tmp_path / "out"
    words = ("model", "encrypt", source, "-o", out, "--key", owner.key, "--sign", owner.sign)
    assert killed(tool, record, *words)
    assert "not an encrypted model" in tool("model", "verify", out, "--signer", owner.sign, status=2).err
    before = {path.name: path.stat().st_ino for path in out.iterdir() if not path.name.startswith(".")}
    tool("recover")
    again = tool(*words)
    assert again.err.count("done before") == len(before)
    after = {path.name: path.stat().st_ino for path in out.iterdir()}
    assert before.items() <= after.items() and len(after) == 4, "nothing is left on the way"
    tool("model", "verify", out, "--signer", owner.sign, "--key", owner.key)


# What each process that holds a key does until it crashes. The last is what a process does that does not care.
CRASHES = {
    "key generate": "from vmtool.models.encryption.keys import new_master; kept = new_master('aes256gcm'); crash()",
    "encrypt": "from vmtool.models.workers import encrypt_file as w; w.os.rename = crash; "
               "w.run(w.Order(plain / 'head.safetensors', out / 'head', key, sign), None)",
    "sign": "from vmtool.models.workers import sign_manifest as w; w.files.write = crash; w.read_done = crash; "
            "w.run(w.Order(out, ('head',), sign), None)",
    "run": "from vmtool.models.encryption import launch_facts as f; from vmtool.host.local import LocalMachine; "
           "kept = list(f._master(LocalMachine(), key, '')); crash()",
    "key serve": "from vmtool.broker.facts import read_resource; kept = read_resource(key); crash()",
    "hand over": "import sys; from vmtool.serving import receive_keys as r; r.os.rename = crash; "
                 "sys.stdin = open(key); r.main([str(out / 'handed')])",
    "another": "kept = key.read_bytes(); crash()",
}
CRASH = """
import ctypes, os, signal
from pathlib import Path
plain, out, key, sign = map(Path, ("plain", "out", "master.jwk", "signer.jwk"))
def crash(*words, **more):
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.parametrize("which", CRASHES)
def test_a_crash_leaves_no_key_in_a_core(tmp_path: Path, which: str) -> None:
    """Where nothing limits cores. PR_GET_DUMPABLE is 3 (prctl(2))."""
    owner = Owner(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "plain").mkdir()
    plain_file(tmp_path / "plain" / "head.safetensors", {"head": ("F32", [2], b"12345678")})

    def without_limit() -> None:
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    done = subprocess.run([sys.executable, "-P", "-c", CRASH + CRASHES[which]], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60, preexec_fn=without_limit, check=False)
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert done.stdout.split() == ["1" if which == "another" else "0"]
    text = base64.b64encode(owner.master.secret)
    holds = {path.name for path in tmp_path.rglob("*") if path.is_file() and text in path.read_bytes()}
    cores = {name for name in holds if name.startswith("core")}
    assert holds - cores <= {"master.jwk", "handed.new"}
    if which != "another":
        assert not list(tmp_path.glob("core*"))
    elif Path("/proc/sys/kernel/core_pattern").read_text().startswith("core") and resource.getrlimit(
            resource.RLIMIT_CORE)[1]:
        assert cores, "the key is in the core of who does not care"
