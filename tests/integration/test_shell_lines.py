"""What the dry run prints is true: typed into a shell, an action's line leaves what the action itself leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.fakes.kinds import KINDS
from tests.integration.shell import IN_A_NETWORK, Scene, do, tree, type_it
from tests.unit.qemu.cases import argv
from vmtool import plan as p
from vmtool.access.actions import WriteAccess
from vmtool.containerd.actions import DeleteLeases, DeleteTask, LimitPids, RemoveCgroup, WriteZone
from vmtool.endpoint.actions import AskCanary, AwaitHealth, Drain, ReadServer
from vmtool.endpoint.client import Server
from vmtool.gpu.actions import AwaitVfioNodes, AwaitVfioUnused, ExpectDriver, ProveVfio, WriteSysfs
from vmtool.host import daemons, processes
from vmtool.image.actions import ExpectDigest, RunBuildah
from vmtool.isolation import private
from vmtool.launch.actions import RequireClaims
from vmtool.libvirt.actions import GuestRequest
from vmtool.qemu.actions import ExpectTee, KillQemu
from vmtool.rootfs.actions import RunGuest
from vmtool.rootfs.build.workers import extract

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# In seconds: what succeeds may take its time on a busy machine; what cannot is not waited for.
COMES, NEVER = 60, 0.2

# Kinds that are not typed here, and why.
NOT_TYPED = {
    DeleteTask: "a task of containerd's: its line asks the same ctr, and what it kills is a unit test's",
    LimitPids: "makes a cgroup of this machine's: what it leaves is the claim pids.limit in test_run.py",
    RemoveCgroup: "likewise: `footprint` in tests/integration/machine.py compares the cgroups",
    DeleteLeases: "takes a containerd with leases: typed in test_leases.py",
    RunBuildah: "a Run, whose line it has: test_image.py",
    ExpectDigest: "takes a containerd with an image: typed in test_image.py",
    RequireClaims: "takes a launch: typed in test_run.py",
    GuestRequest: "takes a guest with its agent, and socat, which vmtool itself does not need",
}
BDF = "0000:01:00.0"
SCENES: list[Scene] = []
Start = Callable[[Path], p.Action]


def scene(kind: type[p.Action], title: str, **more: Any) -> Callable[[Start], Start]:
    """Put a start into the table."""
    def add(start: Start) -> Start:
        SCENES.append(Scene(kind, title, start, **more))
        return start

    return add


# Files.


@scene(p.MakeDir, "with its parents, which nobody else may enter")
def _(place: Path) -> p.Action:
    return p.MakeDir(place / "a/b $c/d", mode=0o755, uid=65532)


@scene(p.MakeDir, "that is there, with other modes")
def _(place: Path) -> p.Action:
    (place / "a").mkdir(mode=0o711)
    (place / "a/b").mkdir(mode=0o777)
    return p.MakeDir(place / "a/b")


@scene(p.MakeDir, "where a file is")
def _(place: Path) -> p.Action:
    (place / "a").touch()
    return p.MakeDir(place / "a/b")


TEXTS = {"text": "one\ntwo\n", "nothing": "", "no last line break": "one\ntwo", "blank lines at its end": "one\n\n\n",
         "what ends a document": "EOF\nEOF1\n$HOME `id` \\n 'q'\n", "a line break": "\n", "EOF alone": "EOF"}
for _title, _text in TEXTS.items():
    @scene(p.WriteFile, _title)
    def _(place: Path, text: str = _text) -> p.Action:
        return p.WriteFile(place / "a 'b'", text, mode=0o640)


@scene(p.WriteFile, "over a file with another name")
def _(place: Path) -> p.Action:
    (place / "old").write_text("old")
    os.link(place / "old", place / "a")
    return p.WriteFile(place / "a", "new\n")


@scene(p.WriteFile, "where a directory is")
def _(place: Path) -> p.Action:
    (place / "a/b").mkdir(parents=True)
    (place / "a/b/c").touch()
    return p.WriteFile(place / "a/b/c/d", "new\n")


@scene(WriteZone, "over one that is there")
def _(place: Path) -> p.Action:
    (place / "zone").write_text("old")
    return WriteZone(place / "zone", 17 * 60 + 5)


@scene(p.CopySecret, "a key of the user's")
def _(place: Path) -> p.Action:
    (place / "key").write_text("sk-1\nsk-2\n")
    return p.CopySecret(place / "api-key", 65532, place / "key")


@scene(p.CopySecret, "that is not there")
def _(place: Path) -> p.Action:
    return p.CopySecret(place / "api-key", 65532, place / "key")


@scene(p.CopySecret, "into a directory that is made for it", changing=("api-key",))
def _(place: Path) -> p.Action:
    return p.CopySecret(place / "a/secret/api-key", 65532)


@scene(p.CopySecret, "a random one", changing=("api-key",),
       look=lambda place: len(bytes.fromhex((place / "api-key").read_text())))
def _(place: Path) -> p.Action:
    return p.CopySecret(place / "api-key", 65532)


@scene(p.CopySecret, "a random one that is there")
def _(place: Path) -> p.Action:
    (place / "api-key").write_text("kept\n")
    return p.CopySecret(place / "api-key", 65532)


@scene(p.Remove, "a tree with links out of it")
def _(place: Path) -> p.Action:
    (place / "a/b").mkdir(parents=True)
    (place / "kept").write_text("kept")
    (place / "a/link").symlink_to(place / "kept")
    (place / "a/b/file").touch(mode=0o000)
    return p.Remove(place / "a")


@scene(p.Remove, "a link to a directory")
def _(place: Path) -> p.Action:
    (place / "kept").mkdir()
    (place / "kept/file").touch()
    (place / "a").symlink_to(place / "kept")
    return p.Remove(place / "a")


@scene(p.Remove, "what is not there")
def _(place: Path) -> p.Action:
    return p.Remove(place / "a/b")


# Programs.


@scene(p.Run, "with environment, input and output")
def _(place: Path) -> p.Action:
    (place / "in").write_text("text")
    return p.Run(("sh", "-c", 'cat; echo "$A"'), env=(("A", "x  y'"),), stdin=place / "in", stdout=place / "out")


@scene(p.Run, "over an output that others may read")
def _(place: Path) -> p.Action:
    (place / "out").write_text("a longer text than the new one")
    (place / "out").chmod(0o644)
    return p.Run(("echo", "$(id)"), stdout=place / "out")


@scene(p.Run, "that fails")
def _(place: Path) -> p.Action:
    return p.Run(("ls", str(place / "no")))


@scene(p.Run, "that fails since there is nothing to undo")
def _(place: Path) -> p.Action:
    return p.Run(("rmdir", str(place / "no")), absent_messages=("does not exist", "No such file or directory"))


@scene(p.Run, "that fails for another reason")
def _(place: Path) -> p.Action:
    (place / "full/a").mkdir(parents=True)
    return p.Run(("rmdir", str(place / "full")), absent_messages=("does not exist", "No such file or directory"))


for _seconds in ("0", "600"):
    @scene(RunGuest, f"that takes {_seconds} s")
    def _(place: Path, seconds: str = _seconds) -> p.Action:
        return RunGuest(("sleep", seconds), env=(("A", "x  y"),), deadline=NEVER if seconds == "600" else COMES)


for _first, _second in (("a", "b"), ("no", "b"), ("no", "nor")):
    @scene(p.RunEither, f"of {_first} and {_second}")
    def _(place: Path, first: str = _first, second: str = _second) -> p.Action:
        for name in ("a", "b"):
            (place / name).write_text(name)
        one, other = (("cp", str(place / name), str(place / "copy")) for name in (first, second))
        return p.RunEither(one, other, env=(("A", "x  y'"),))


@scene(p.RunWorker, "that does its order")
def _(place: Path) -> p.Action:
    (place / "image").write_text("0123456789")
    return p.run_worker(extract.Order(place / "image", 2, 3, place / "piece"))


@scene(p.RunWorker, "with a long order, in a namespace of its own")
def _(place: Path) -> p.Action:
    (place / "lock").write_text('{"packages": []}')
    return p.run_worker(extract.Order(place / f"{'x' * 99} 'EOF'", 2, 3, place / "piece"), prefix=private(root=True))


@scene(p.RunWorker, "that fails")
def _(place: Path) -> p.Action:
    return p.run_worker(extract.Order(place / "no", 0, 1, place / "piece"))


@scene(p.Expect, "a line")
def _(place: Path) -> p.Action:
    (place / "network.json").touch()
    return p.Expect(("ls", str(place)), "network.json")


@scene(p.Expect, "a line that only begins so")
def _(place: Path) -> p.Action:
    (place / "network.json.old").touch()
    return p.Expect(("ls", str(place)), "network.json")


@scene(p.Expect, "a line of a program that then fails")
def _(place: Path) -> p.Action:
    return p.Expect(("sh", "-c", "echo here; exit 1"), "here")


# Daemons.

LISTEN = """
import socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("listening", flush=True)
time.sleep(600)
"""


def lives(place: Path) -> tuple[object, ...]:
    """Whether the daemon lives, is known by its start time, and is its own session's leader."""
    pid = daemons.living(place / "run/pid")
    words = (place / "run/pid").read_text().split() if (place / "run/pid").exists() else []
    return (pid is not None, len(words), pid is not None and os.getsid(pid) == pid)


def end(place: Path) -> None:
    """Leave no process."""
    for path in place.rglob("*pid"):
        with contextlib.suppress(ValueError, ProcessLookupError, IndexError):
            os.kill(int(path.read_text().split()[0]), signal.SIGKILL)


def daemon(place: Path) -> p.StartDaemon:
    (place / "run").mkdir()
    return p.StartDaemon((sys.executable, "-c", LISTEN, str(place / "run/sock")), place / "run/pid", place / "log",
                         place / "run/sock", deadline=COMES)


@scene(p.StartDaemon, "that is not there", changing=("pid",), look=lives, ends=end)
def _(place: Path) -> p.Action:
    return daemon(place)


@scene(p.StartDaemon, "that lives", changing=("pid",), look=lives, ends=end)
def _(place: Path) -> p.Action:
    action = daemon(place)
    assert do(action)
    return action


def started(place: Path) -> p.StartDaemon:
    action = daemon(place)
    assert do(action)
    (place / "users").mkdir()
    (place / "it").write_text((place / "run/pid").read_text())
    return action


def is_alive(place: Path) -> bool:
    pid, start = (place / "it").read_text().split()
    return processes.start_time(int(pid)) == start


def stays_alive(place: Path) -> bool:
    """As `is_alive`, of what may have been killed just now: the line that is typed does not wait for its end."""
    until = time.monotonic() + COMES
    while is_alive(place) and time.monotonic() < until:
        time.sleep(0.02)
    return is_alive(place)


@scene(p.StopDaemon, "that nobody uses", changing=("it",), look=stays_alive, ends=end)
def _(place: Path) -> p.Action:
    return p.StopDaemon(started(place).pidfile, place / "users", deadline=2)


@scene(p.StopDaemon, "that somebody uses", changing=("it", "pid"), look=is_alive, ends=end)
def _(place: Path) -> p.Action:
    started(place)
    (place / "users/a").touch()
    return p.StopDaemon(place / "run/pid", place / "users", deadline=COMES)


@scene(p.StopDaemon, "that is gone")
def _(place: Path) -> p.Action:
    (place / "run").mkdir()
    (place / "run/sock").touch()
    return p.StopDaemon(place / "run/pid", place / "users", deadline=COMES)


@scene(p.StopDaemon, "that does not listen", changing=("it", "pid"), look=is_alive, ends=end)
def _(place: Path) -> p.Action:
    """Killed it is a zombie: its parent, this process, has not asked for its end."""
    (place / "run").mkdir()
    child = subprocess.Popen(["sh", "-c", f"trap '' TERM; : > {place}/ready; while :; do sleep 0.1; done"])
    while not (place / "ready").exists():
        time.sleep(0.01)
    named(child, place / "run/pid", place / "it")
    return p.StopDaemon(place / "run/pid", place / "users", deadline=1)


def named(child: subprocess.Popen[bytes], *files: Path, start: str = "") -> None:
    """Write its pid and its start time to files, or another start time."""
    for file in files:
        file.write_text(f"{child.pid} {start or processes.start_time(child.pid)}\n")


def reused(place: Path) -> None:
    """The pid file's pid is another process's today."""
    (place / "run").mkdir()
    child = sleeper(place)
    named(child, place / "it")
    named(child, place / "run/pid", start="1")
    (place / "run/pid").chmod(0o600)


@scene(p.StartDaemon, "whose pid another has", changing=("pid", "it", "a) b"), look=lives, ends=end)
def _(place: Path) -> p.Action:
    reused(place)
    return p.StartDaemon((sys.executable, "-c", LISTEN, str(place / "run/sock")), place / "run/pid", place / "log",
                         place / "run/sock", deadline=COMES)


@scene(p.StopDaemon, "whose pid another has", changing=("pid", "it", "a) b"), look=is_alive, ends=end)
def _(place: Path) -> p.Action:
    reused(place)
    return p.StopDaemon(place / "run/pid", place / "users", deadline=COMES)


def sleeper(place: Path) -> subprocess.Popen[bytes]:
    """A process whose name has a blank and a bracket in it, and a pid file that another program wrote."""
    program = place / "a) b"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "600"])
    (place / "pid").write_text(f"{child.pid}")
    return child


@scene(p.RecordPid, "of a process that lives", changing=("pid", "a) b"), ends=end,
       look=lambda place: daemons.living(place / "pid") is not None and len((place / "pid").read_text().split()))
def _(place: Path) -> p.Action:
    sleeper(place)
    return p.RecordPid(place / "pid")


@scene(p.RecordPid, "of one that is gone")
def _(place: Path) -> p.Action:
    (place / "pid").write_text("4194303")
    return p.RecordPid(place / "pid")


# Devices, as files.


def device(place: Path, driver: str) -> Path:
    """A directory as of a PCI device."""
    path = place / BDF
    path.mkdir()
    (place / "drivers" / driver).mkdir(parents=True)
    if driver:
        (path / "driver").symlink_to(f"../drivers/{driver}")
    for name in ("driver_override", "d3cold_allowed", "unbind"):
        (path / name).touch()
    return path


@scene(WriteSysfs, "texts, one of them empty")
def _(place: Path) -> p.Action:
    path = device(place, "nvidia")
    return WriteSysfs(((f"{path}/d3cold_allowed", "0"), (f"{path}/driver_override", "")), marks=place / "marks")




for _driver, _now in (("nvidia", "nvidia"), ("nvidia", ""), ("", ""), ("", "nvidia"), ("*", "nvidia"), ("*", "")):
    @scene(WriteSysfs, f"for a device of {_driver or 'no driver'}, which has {_now or 'none'}")
    def _(place: Path, driver: str = _driver, now: str = _now) -> p.Action:
        path = device(place, now)
        return WriteSysfs(((f"{path}/unbind", BDF),), ((str(path), driver),), marks=place / "marks")

for _driver, _now in (("nvidia", "nvidia"), ("nvidia", ""), ("", ""), ("", "nvidia"), ("nvidia", "nouveau")):
    @scene(ExpectDriver, f"{_driver or 'none'}, and it is {_now or 'none'}")
    def _(place: Path, driver: str = _driver, now: str = _now) -> p.Action:
        return ExpectDriver(((str(device(place, now)), driver),), marks=place / "marks",
                            deadline=COMES if driver == now else NEVER)


@scene(WriteSysfs, "to a file that is not there")
def _(place: Path) -> p.Action:
    return WriteSysfs(((f"{device(place, 'nvidia')}/no/such", "1"),), marks=place / "marks")


@scene(WriteSysfs, "to a file that is not there, which is no failure")
def _(place: Path) -> p.Action:
    return WriteSysfs(((f"{device(place, 'nvidia')}/no/such", "1"),), marks=place / "marks", may_fail=True)


@scene(WriteSysfs, "for a device that is gone")
def _(place: Path) -> p.Action:
    path = place / BDF
    return WriteSysfs(((f"{path}/unbind", BDF),), ((str(path), "*"),), marks=place / "marks")


@scene(ExpectDriver, "of two, the first of which has another")
def _(place: Path) -> p.Action:
    (place / "a").mkdir()
    (place / "b").mkdir()
    return ExpectDriver(((str(device(place / "a", "nvidia")), "vfio-pci"), (str(device(place / "b", "vfio-pci")),
                                                                            "vfio-pci")), deadline=NEVER)


for _gone in (True, False):
    @scene(ExpectDriver, f"of a device that is gone, which is {'right' if _gone else 'wrong'}")
    def _(place: Path, gone: bool = _gone) -> p.Action:
        return ExpectDriver(((str(place / BDF), "nvidia"),), gone=gone, deadline=COMES if gone else NEVER)


for _node in ("", "vfio9999", "vfio9999/dev"):
    @scene(AwaitVfioNodes, f"of a device with vfio-dev/{_node}")
    def _(place: Path, node: str = _node) -> p.Action:
        path = device(place, "vfio-pci")
        (path / "vfio-dev" / node).mkdir(parents=True)
        return AwaitVfioNodes((str(path),), deadline=NEVER if "dev" in node else COMES)


@scene(AwaitVfioNodes, "of a device that has none")
def _(place: Path) -> p.Action:
    return AwaitVfioNodes((str(device(place, "vfio-pci")),), deadline=NEVER)


@scene(AwaitVfioUnused, "of a device that is not VFIO's")
def _(place: Path) -> p.Action:
    return AwaitVfioUnused((str(device(place, "nvidia")),), deadline=COMES)


@scene(ProveVfio, "of a device that no machine could open")
def _(place: Path) -> p.Action:
    """What is proven needs a device: the lab has one."""
    return ProveVfio((str(device(place, "vfio-pci")),), place / "proofs")


# A served model.


class Model(BaseHTTPRequestHandler):
    """Answers whoever has the first key."""

    left: ClassVar = [1, 0]

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if self.path == "/v1/models":
            self.wfile.write(b'{"object": "list", "data": [{"id": "m \xc3\xa9", "max_model_len": 256}]}')

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = self.headers.get_all("Authorization") == ["Bearer sk-1"] and question["temperature"] == 0
        self.send_response(200 if right else 401)
        self.end_headers()
        answer = {"choices": [{"message": {"content": f" {question['messages'][0]['content']} “é” \n"}}]}
        self.wfile.write(json.dumps(answer).encode())

    def do_PUT(self) -> None:
        """A front that takes leave, and one connection that goes on for a moment."""
        left, Model.left = Model.left, Model.left[1:] or [1, 0]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"requests" if self.path == "/close" else "connections": left[0]}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def model() -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", PORT), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


KERNEL = "/opt/kata/share/kata-containers/vmlinuz.container"
PORT = 18933
SERVED, ABSENT = Server("127.0.0.1", PORT, Path("/no")), Server("127.0.0.1", 9, Path("/no"))
for _server in (SERVED, ABSENT):
    @scene(AwaitHealth, "that is healthy" if _server is SERVED else "that is not there", changing=("pid", "a) b"),
           ends=end)
    def _(place: Path, server: Server = _server) -> p.Action:
        sleeper(place)
        return AwaitHealth(server, place / "pid", place / "log", deadline=COMES if server is SERVED else NEVER)


@scene(AwaitHealth, "at an address that CNI gave", changing=("pid", "a) b"), ends=end)
def _(place: Path) -> p.Action:
    sleeper(place)
    (place / "it's a.json").write_text('{"ips": [{"address": "127.0.0.1/8"}]}')
    return AwaitHealth(Server("", PORT, place / "it's a.json"), place / "pid", place / "log", deadline=COMES)


for _server in (SERVED, ABSENT):
    @scene(Drain, "that takes leave" if _server is SERVED else "that is not there", changing=("pid", "a) b"), ends=end)
    def _(place: Path, server: Server = _server) -> p.Action:
        sleeper(place)
        (place / "key").write_text("sk-1\n")
        return Drain(server, place / "key", place / "pid", deadline=COMES)


@scene(Drain, "that is to be stopped", changing=("pid", "a) b"), ends=end)
def _(place: Path) -> p.Action:
    sleeper(place)
    (place / "key").write_text("sk-1\n")
    return Drain(SERVED, place / "key", place / "pid", deadline=COMES, close=True)


for _match, _expect in (("exact", "Why? “é”"), ("exact", "Why?"), ("contains", "“é”"), ("contains", "no")):
    @scene(AskCanary, f"{_match}: {_expect}")
    def _(place: Path, match: str = _match, expect: str = _expect) -> p.Action:
        (place / "key").write_text("sk-1\nsk-2\n")
        return AskCanary(SERVED, place / "key", "m", "Why?", expect, match, place / "canary.json", deadline=COMES)


for _server, _log in ((SERVED, "x\n\x1b[0m INFO non-default args: {'a': '\"é'}\nnon-default args: {}\n"),
    (SERVED, "x\n"),
                      (ABSENT, "non-default args: {}\n")):
    @scene(ReadServer, f"{_server.port}, {_log[:12]!r}")
    def _(place: Path, server: Server = _server, log: str = _log) -> p.Action:
        (place / "key").write_text("sk-1\nsk-2\n")
        (place / "log").write_text(log)
        return ReadServer(server, place / "key", place / "log", place / "server.json", deadline=COMES)


# Who may ask.

GOOD_TOKEN = f"token ci sha256:{'a' * 64} requests=1"
for _tokens in (None, f"# by hand\n\n{GOOD_TOKEN}\n", GOOD_TOKEN, ""):
    @scene(WriteAccess, f"tokens: {_tokens!r}")
    def _(place: Path, tokens: str | None = _tokens) -> p.Action:
        (place / "key").write_text("sk-1\nsk-2" if tokens == "" else "sk-1\nsk-2\n")
        (place / "manager").write_text("m" * 64 + "\n")
        (place / "scraper").write_text("s" * 64)
        if tokens is not None:
            (place / "tokens").write_text(tokens)
        return WriteAccess(place / "key", place / "tokens", place / "manager", place / "scraper", place / "access")


@scene(WriteAccess, "with TLS")
def _(place: Path) -> p.Action:
    for name, text in (("key", "sk-1\n"), ("manager", "m" * 64 + "\n"), ("scraper", "s")):
        (place / name).write_text(text)
    (place / "tls").mkdir()
    for name, kind in (("certificate", "CERTIFICATE"), ("key", "PRIVATE KEY")):
        block = f"-----BEGIN {kind}-----\nAAAA\nBB==\n-----END {kind}-----\n"
        (place / "tls" / f"{name}.pem").write_text(block * (2 if name == "certificate" else 1))
    return WriteAccess(place / "key", place / "tokens", place / "manager", place / "scraper", place / "access",
                       place / "tls")


# QEMUs: a shell under their name, with their arguments.


def qemu(place: Path, file: str) -> subprocess.Popen[bytes]:
    program = place / "qemu-system-x86_64"
    shutil.copy("/bin/sh", program)
    child = subprocess.Popen([program, "-c", "while :; do sleep 600; done", *argv(file)[1:]], start_new_session=True)
    named(child, place / "pid")
    while argv(file)[-1] not in Path(f"/proc/{child.pid}/cmdline").read_text():
        time.sleep(0.01)
    return child


def end_group(place: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int((place / "pid").read_text().split()[0]), signal.SIGKILL)


for _file in ("snp", "none"):
    @scene(ExpectTee, f"of a guest that was started as {_file}", changing=("pid", "qemu-system-x86_64"),
           ends=end_group)
    def _(place: Path, file: str = _file) -> p.Action:
        qemu(place, file)
        return ExpectTee("sandbox-chat", "snp", (), str(place / "qemu-system-x86_64"), KERNEL, place / "qemu.txt",
                         deadline=COMES if file == "snp" else NEVER, pidfile=place / "pid")


@scene(ExpectTee, "of a guest that is not there")
def _(place: Path) -> p.Action:
    return ExpectTee("sandbox-chat", "snp", (), "", KERNEL, place / "qemu.txt", deadline=NEVER, pidfile=place / "pid")


for _file, _name in (("snp", "sandbox-chat"), ("snp-libvirt", "vmtool-chat"), ("snp", "sandbox-cha"),
                     ("snp", "sandbox.chat")):
    @scene(KillQemu, f"{_name}, when one runs as {_file}", changing=("pid", "qemu-system-x86_64"), ends=end_group,
           look=lambda place: daemons.living(place / "pid") is not None)
    def _(place: Path, file: str = _file, name: str = _name) -> p.Action:
        qemu(place, file)
        (place / "qemu++").symlink_to("qemu-system-x86_64")
        return KillQemu(name, str(place / "qemu++"), deadline=COMES)


@scene(KillQemu, "of another program", changing=("pid", "qemu-system-x86_64"), ends=end_group,
       look=lambda place: daemons.living(place / "pid") is not None)
def _(place: Path) -> p.Action:
    qemu(place, "snp")
    return KillQemu("sandbox-chat", str(place / "qemu"), deadline=COMES)


@pytest.fixture
def places() -> Iterator[list[Path]]:
    """Two directories; short, since a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vmt-") as directory:
        found = [Path(directory) / name for name in ("d", "t")]
        for place in found:
            place.mkdir()
        yield found


@pytest.mark.parametrize("one", SCENES, ids=lambda one: f"{one.kind.__name__}: {one.title}")
def test_typed_it_leaves_what_it_leaves_when_it_is_done(one: Scene, places: list[Path]) -> None:
    results = []
    for place, way in zip(places, (do, type_it), strict=True):
        try:
            action = one.start(place)
            results.append((way(action), one.look(place), tree(place, one.changing)))
        finally:
            one.ends(place)
    assert results[0] == results[1]


def test_every_action_is_typed_or_it_is_said_why_not() -> None:
    typed = {one.kind for one in SCENES}
    assert typed | set(IN_A_NETWORK) | set(NOT_TYPED) == set(KINDS)
    assert not typed & set(NOT_TYPED)
