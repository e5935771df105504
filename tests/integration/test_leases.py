"""An import that is killed leaves nothing in containerd, whatever is killed and wherever it is; and what others have
there at the same time stays: a lease, an import of their own that goes on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.apart import apart
from tests.integration.kills import held
from tests.integration.machine import Vmtool, output
from tests.integration.standin_image import add_blob, archive
from vmtool.containerd.actions import DeleteLeases, WriteZone
from vmtool.containerd.endpoint import NAMESPACE, Endpoint, private_endpoint, start_daemon
from vmtool.containerd.leases import lease_mark
from vmtool.host.local import LocalHost
from vmtool.paths import State
from vmtool.plan import StopDaemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ctr"), reason="needs root and containerd")
# Bytes of a layer.
SIZE = 8 << 20


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[None]:
    """Its containerds are nobody else's to see."""
    with apart():
        yield


@pytest.fixture
def awake(own_state: Vmtool) -> Iterator[Endpoint]:
    """The private containerd, running as long as somebody needs it."""
    state, host = State(own_state.state), LocalHost()
    daemon = start_daemon(state)
    own_state("image", "import", image(own_state.state.parent / "first.tar", "docker.io/x/first:1"))
    host.make_dir(state.run)
    daemon.do(host)
    host.write(state.containerd / "users" / "test", "")
    yield private_endpoint(state)
    host.remove(state.containerd / "users" / "test")
    StopDaemon(daemon.pidfile, state.containerd / "users").do(host)


def image(path: Path, reference: str) -> Path:
    """An archive whose one layer is noise: nothing else has its blobs."""
    blobs: dict[str, bytes] = {}
    noise = random.randbytes(SIZE)
    name = b"noise".ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + f"{SIZE:011o}\0".encode() + b"0" * 11 + b"\0"
    head = name + b" " * 8 + b"0" + bytes(355)
    head = head[:148] + f"{sum(head):06o}\0 ".encode() + head[156:]
    layer = add_blob(blobs, head + noise + bytes(1024), "application/vnd.oci.image.layer.v1.tar")
    config = {"architecture": "amd64", "os": "linux", "config": {"User": "65532:65532"},
              "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [layer],
                "config": add_blob(blobs, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")}
    top = add_blob(blobs, json.dumps(manifest).encode(), manifest["mediaType"])  # type: ignore[arg-type]
    return archive(path, top, reference, dict(reversed(blobs.items())))


def contents(endpoint: Endpoint) -> dict[str, list[str]]:
    """All that containerd has in vmtool's namespace, by name."""
    lists = {"leases": ("leases", "list", "--quiet"), "content": ("content", "list", "--quiet"),
             "images": ("images", "list", "--quiet"), "ingests": ("content", "active"),
             "snapshots": ("snapshots", "list")}
    return {name: sorted(line.split()[0] for line in output(*endpoint.ctr(*words)).splitlines()
                         if not re.match(r"(REF|KEY)\s", line)) for name, words in lists.items()}


def wait(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def feed(pipe: Path, data: bytes) -> int:
    """What reads the pipe gets that much, and waits for more as long as the descriptor is open."""
    descriptor = os.open(pipe, os.O_WRONLY)
    while data:
        data = data[os.write(descriptor, data):]
    return descriptor


@pytest.mark.parametrize("victim", ["vmtool", "ctr", "containerd"])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0], ids=["before a byte", "within the layer", "within the end"])
def test_a_killed_import_is_undone_and_nothing_else(own_state: Vmtool, awake: Endpoint, tmp_path: Path, victim: str,
                                                    part: float) -> None:
    other = subprocess.Popen(awake.ctr("images", "import", "-"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    theirs = image(tmp_path / "theirs.tar", "docker.io/x/theirs:1").read_bytes()
    assert other.stdin
    other.stdin.write(theirs[:len(theirs) // 2])
    other.stdin.flush()
    subprocess.run(awake.ctr("leases", "create", "--id", "somebody's"), check=True, stdout=subprocess.DEVNULL)
    wait(lambda: len(contents(awake)["leases"]) == 2 and bool(contents(awake)["ingests"]), "their import")
    before = contents(awake)
    path = image(tmp_path / "mine.tar", "docker.io/x/mine:1")
    mine = path.read_bytes()
    with held(own_state, "images import", "image", "import", path) as vmtool:
        path.rename(tmp_path / "kept.tar")
        os.mkfifo(path)
        vmtool.send_signal(signal.SIGCONT)
        pipe = feed(path, mine[:int(part * (len(mine) - 10240))])
        wait(lambda: len(contents(awake)["leases"]) == 3, "the import's lease")
        patterns = {"ctr": f"ctr --address {awake.socket} .*images import {path}$",
                    "containerd": f"containerd --config {own_state.state}/"}
        if victim == "containerd":
            # It would take its own lease back where vmtool's undo has started the daemon again by then.
            other.kill()
            other.wait(60)
        [pid] = [vmtool.pid] if victim == "vmtool" else output("pgrep", "-f", patterns[victim]).split()
        os.kill(int(pid), signal.SIGKILL)
        if victim == "vmtool":
            # What vmtool started is ended with it. A ctr that saw its archive end first would delete its lease itself,
            # and containerd would look for what nobody needs some other day.
            vmtool.wait(60)
        os.close(pipe)
        assert vmtool.communicate(timeout=300) and vmtool.returncode == (-signal.SIGKILL if victim == "vmtool" else 1)
    own_state("recover")
    if victim != "containerd":
        after = contents(awake)
        assert after == before
        other.stdin.write(theirs[len(theirs) // 2:])
        other.stdin.close()
        assert other.wait(60) == 0, "their import was cut off"
    else:
        start_daemon(State(own_state.state)).do(LocalHost())
        left = contents(awake)
        assert left == {**before, "ingests": left["ingests"]}
        assert set(left["ingests"]) <= set(before["ingests"])
    path.unlink()
    own_state("image", "import", tmp_path / "kept.tar")
    assert len(contents(awake)["leases"]) == len(before["leases"]) - (victim != "containerd")
    assert "docker.io/x/mine:1" in contents(awake)["images"]


def test_the_line_that_deletes_leases_deletes_those_with_the_mark(own_state: Vmtool, awake: Endpoint,
                                                                  tmp_path: Path) -> None:
    """As a person types it, who follows the runbook."""
    mark = lease_mark(State(own_state.state), tmp_path)
    delete = DeleteLeases(awake.socket, NAMESPACE, mark.filter)
    subprocess.run(["sh", "-c", WriteZone(mark.zone, mark.west).shell()], check=True)
    for name, zone in (("mine", mark.environment), ("also-mine", mark.environment), ("theirs", ())):
        subprocess.run(awake.ctr("leases", "create", "--id", name), check=True, stdout=subprocess.DEVNULL,
                       env={"PATH": os.environ["PATH"], **dict(zone)})
    assert contents(awake)["leases"] == ["also-mine", "mine", "theirs"]
    for _ in range(2):
        subprocess.run(["sh", "-c", delete.shell()], check=True, stdout=subprocess.DEVNULL)
        assert contents(awake)["leases"] == ["theirs"]
    delete.do(LocalHost())


def test_an_import_that_ends_leaves_no_lease(own_state: Vmtool, awake: Endpoint, tmp_path: Path) -> None:
    own_state("image", "import", image(tmp_path / "mine.tar", "docker.io/x/mine:1"))
    assert contents(awake)["leases"] == []
    own_state("image", "rm", "docker.io/x/mine:1")
    assert "docker.io/x/mine:1" not in contents(awake)["images"]
