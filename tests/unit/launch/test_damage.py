"""Every file of a state directory is damaged in every way, and every command still says the truth.

No traceback, nothing waited for, never "removed" while something is there, an exit code, and a hint that works.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.machine.containers import Containerd
from tests.fakes.ondisk import OnDisk, Typed, typed
from tests.unit.sweeps import launch
from tests.unit.sweeps.engine import do
from vmtool.host import processes
from vmtool.paths import State

INSTANCE = "instances/a"
# As `tests.unit.launch.cases.wish`.
SPEC = """apiVersion: vmtool/v1
kind: Runtime
metadata: {name: a}
spec:
  runtime: {handler: runc}
  allow_unconfidential: true
  image: vmtool/x
  model: {name: m, path: /m}
  resources: {memory: 2Gi, cpus: 1}
  network: {publish: ["8000"]}
"""
# Of these the undo is made, or they say what runs; every other file is harmed in every way by the slow sweep.
VITAL = ("journal.jsonl", "instance.json", "plan.json", "container.pid")


def flipped(path: Path, line: int) -> None:
    """One byte within a line."""
    lines = path.read_bytes().splitlines(keepends=True) or [b""]
    chosen = lines[line % len(lines)]
    place = len(chosen) // 2
    lines[line % len(lines)] = chosen[:place] + bytes([(chosen[place] if chosen else 0) ^ 1]) + chosen[place + 1:]
    path.write_bytes(b"".join(lines))


def swapped(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], *lines[2:3], *lines[1:2], *lines[3:]]))


def doubled(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[1:]]))


def shortened(path: Path, keep: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


HARMS: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:path.stat().st_size // 2]),
    "cut at a line": lambda path: shortened(path, 3),
    "without its last line": lambda path: shortened(path, -1),
    "empty": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
    **{f"a byte of line {line} flipped": functools.partial(flipped, line=line) for line in (0, 1, 7, -1)},
    "two lines swapped": swapped,
    "a line doubled": doubled,
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 16),
    "deep": lambda path: path.write_bytes(b"[" * 200_000),
    "another value": lambda path: path.write_bytes(b'{"event": "plan", "right": 7, "claims": 3}\n'),
    "a pipe": lambda path: replaced(path, os.mkfifo),
    "a directory": lambda path: replaced(path, os.mkdir),
    "a link": lambda path: replaced(path, lambda path: path.symlink_to("/nowhere/at/all")),
    "huge": lambda path: os.truncate(path, 1 << 40),
}
LOOKS = (("ps",), ("ps", "--json"), ("status", "a"), ("status", "a", "--json"), ("logs", "a"), ("logs", "a", "--host"),
         ("chat", "a", "Why?"), ("exec", "a", "--", "true"), ("recover", "--dry-run"), ("image", "list"),
         ("net", "show"), ("recover", "--adopt", "a", "--dry-run"))
CHANGES = (("stop", "a"), ("rm", "a", "--yes"), ("run", "SPEC"), ("recover",), ("recover", "--adopt", "a", "--yes"),
           ("image", "rm", "x"))


@pytest.fixture(scope="module")
def pristine() -> Iterator[tuple[OnDisk, Path]]:
    """A launched instance, and a copy of its files; in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        directory = Path(name)
        state = State(directory / "state")
        machine = launch.host(state)
        do(state, machine, launch.RUNC(state, machine))
        world = OnDisk(machine, state.root)
        world.dump()
        shutil.copytree(state.root, directory / "copy", symlinks=True)
        yield world, directory / "copy"


@pytest.fixture
def place(pristine: tuple[OnDisk, Path], monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def become(argv: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(processes, "become", become)
    return Place(*pristine, monkeypatch)


class Place:
    """Where a file is harmed and a command typed."""

    def __init__(self, world: OnDisk, copy: Path, patch: pytest.MonkeyPatch) -> None:
        self.pristine, self.copy, self.patch = world, copy, patch
        self.root = world.root
        self.spec = copy.parent / "a.yaml"
        self.spec.write_text(SPEC)
        self.machine = world.machine

    def fresh(self) -> None:
        world = self.pristine.copy(self.copy)
        world.install(self.patch)
        self.machine = world.machine

    def type(self, *words: str) -> Typed:
        """A command, which ends well or badly but never as a fault of vmtool's."""
        done = typed(self.root, *(str(self.spec) if word == "SPEC" else word for word in words), patch=self.patch)
        where = f"{' '.join(words)}: {done}"
        assert "Traceback" not in done.err and "fault of vmtool" not in done.err, where
        assert done.code in (0, 1, 2, 3, 4), where
        assert done.code == 0 or done.err or words[0] == "status", where
        assert done.code == 0 or "hint: " in done.err or words[0] in ("status", "logs"), where
        if "removed a" in done.err.splitlines() or "recovered: instance a" in done.err:
            assert self.left() == [], f"it says that all is gone: {where}"
        return done

    def harmed(self, file: str, harm: str, words: tuple[str, ...]) -> None:
        """Look at what is damaged, type a command, and in the end remove all."""
        self.fresh()
        HARMS[harm](self.root / file)
        for look in LOOKS:
            self.type(*look)
        self.finished(words)
        self.gone()

    def finished(self, words: tuple[str, ...]) -> None:
        """Type a command and, as long as it fails, what its hint says."""
        done = self.type(*words)
        for _ in range(4):
            if done.code == 0 or not done.hint:
                return
            done = self.type(*done.hint)

    def gone(self) -> None:
        """In the end the instance can be removed, by what the hints say, and nothing is left."""
        self.finished(("rm", "a", "--yes"))
        done = self.type("rm", "a", "--yes")
        assert done.code == 0 or "there is no instance 'a'" in done.err, done
        assert self.left() == [], done

    def left(self) -> list[str]:
        """What of the instance is on the machine."""
        store = self.machine.containerds.get(str(State(self.root).containerd / "root"), Containerd())
        spaces = [name for name in self.machine.links.spaces if name == "vmtool-a"]
        rules = [line for table in ("nat", "filter", "raw") for line in self.machine.tables.lines(table)
                 if re.search(r'id: \\?"a\\?"|vmtool a/a|10\.\d+\.\d+\.2/32', line)]
        return [*store.containers, *store.tasks, *store.snapshots, *spaces, *rules]


def paths(root: Path) -> list[str]:
    """Every file of the state directory, but for the store of containerd's own."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*")
                  if path.is_file() and not path.is_relative_to(root / "containerd" / "root"))


FILES = (  # as a launch with runc leaves them
    "containerd/config.toml", "containerd/containerd.log", "containerd/users/a", "images/x/image.json",
    "images/x/listing.txt", "instances/a/container.pid", "instances/a/evidence/canary.json",
    "instances/a/evidence/image.txt", "instances/a/evidence/proof.json", "instances/a/evidence/server.json",
    "instances/a/instance.json", "instances/a/journal.jsonl", "instances/a/log/guest.log", "instances/a/log/host.log",
    "instances/a/net/bridge.json", "instances/a/net/bridge.result.json", "instances/a/net/firewall.json",
    "instances/a/net/portmap.json", "instances/a/net/portmap.result.json", "instances/a/net/result.json",
    "instances/a/plan.json", "instances/a/secret/access", "instances/a/secret/api-key",
    "instances/a/secret/manager-key", "instances/a/secret/metrics-key", "instances/a/zone",
    "instances/a/spec.json", "locks/host", "locks/instances-a",
    "networks/a/a.conflist", "networks/a/attached/a.json", "networks/a/leases/a/10.201.18.2",
    "networks/a/leases/a/last_reserved_ip.0", "networks/a/leases/a/lock", "networks/a/network.json",
    "networks/chains-made")


def test_every_file_is_in_the_table(place: Place) -> None:
    place.fresh()
    assert paths(place.root) == sorted(FILES)


def test_unharmed_every_command_does_what_it_says(place: Place) -> None:
    place.fresh()
    assert [place.type(*words).code for words in LOOKS] == [0] * (len(LOOKS) - 1) + [2]
    codes = []
    for words in CHANGES:
        place.fresh()
        codes.append(place.type(*words).code)
    assert codes == [0, 0, 0, 0, 2, 2]


def test_what_killed_writes_left_everywhere_changes_no_answer(place: Place) -> None:
    def leave() -> None:
        place.fresh()
        for directory in (place.root, *(path for path in place.root.rglob("*") if path.is_dir())):
            for name in ("a", "journal.jsonl", "network.json", "host"):
                (directory / f".{name}.00abcdef.tmp").write_bytes(b'{"half": ')

    leave()
    assert [place.type(*words).code for words in LOOKS] == [0] * (len(LOOKS) - 1) + [2]
    codes = []
    for words in CHANGES:
        leave()
        codes.append(place.type(*words).code)
    assert codes == [0, 0, 0, 0, 2, 2]
    leave()
    place.gone()


@pytest.mark.thorough
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("file", [f"{INSTANCE}/{name}" for name in VITAL])
def test_a_vital_file_that_is_damaged_is_told_and_the_instance_can_be_removed(place: Place, file: str,
                                                                              harm: str) -> None:
    place.harmed(file, harm, CHANGES[number_of(file, harm) % len(CHANGES)])


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_whatever_is_damaged_every_command_says_the_truth(place: Place, file: str) -> None:
    for harm in HARMS:
        for words in CHANGES:
            place.harmed(file, harm, words)


def number_of(file: str, harm: str) -> int:
    """Another command for each damage; over all of them each command has its turn."""
    return VITAL.index(Path(file).name) + list(HARMS).index(harm)
