"""Which runtimes containerd has is what containerd says of the file that the running daemon was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.fakes.threads import stat
from vmtool.containerd.config_facts import IMPORTED, read_runtimes
from vmtool.containerd.daemon_facts import Daemon, read_daemon

DATA = Path(__file__).parents[2] / "data" / "containerd"
MAIN = "/etc/containerd/config.toml"
DUMP = f"containerd --config {MAIN} config dump"
LISTENS = "ss -xlpHn src /run/containerd/containerd.sock"
ROOT, ANN = "Uid:\t0\t0\t0\t0\n", "Uid:\t1000\t1000\t1000\t1000\n"
# The files, and whether containerd 1.6 has the runtime `kata` with them. "nover" has version 2's name without the line,
# so that it is a file of version 1, where the name means nothing; with "v2cri" it does not start; "v3old" has version
# 2's name, which 1.6 reads nevertheless.
FILES = {"nover": False, "v1": True, "v2": True, "v2cri": False, "v3old": True}


def host(name: str, **more: Any) -> Recorded:
    return Recorded({"texts": {MAIN: (DATA / f"{name}.toml").read_text()}, **more})


def names(reader: Recorded) -> list[str]:
    return [runtime.name for runtime in read_runtimes(reader) if "kata" in runtime.type]


@pytest.mark.parametrize(("name", "known"), FILES.items())
def test_containerd_is_asked(name: str, known: bool) -> None:
    """What containerd 1.6.20 dumps of each file."""
    dump = DATA / f"{name}.dump.toml"
    answer = {"out": dump.read_text()} if dump.exists() else {"status": 1, "err": "containerd: invalid plugin key URI"}
    reader = host(name, outputs={DUMP: answer})
    assert names(reader) == ["kata"] * known
    assert [one.config_path for one in read_runtimes(reader) if one.name == "kata"] == [
        "/etc/kata-containers/configuration.toml"] * known


DROPPED_IN = """version = {version}

[plugins]
  [plugins.'io.containerd.cri.v1.runtime']
    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]
          runtime_type = 'io.containerd.kata.v2'
          runtime_path = ''
          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata.options]
            ConfigPath = '/opt/kata/share/defaults/kata-containers/configuration-qemu.toml'
"""


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("main", [True, False], ids=["with a main file", "without one"])
def test_what_containerd_2_has_from_its_conf_d_is_known(version: int, main: bool) -> None:
    """containerd 2.0 to 2.2 dump version 3, 2.3 version 4."""
    named = f"--config {MAIN} " if main else ""
    reader = Recorded({"texts": {MAIN: f"version = {version}\n"} if main else {}, "names": {IMPORTED: ["kata.toml"]},
                       "outputs": {
        f"containerd {named}config dump": {"out": DROPPED_IN.format(version=version)}}})
    assert names(reader) == ["kata"]


def test_a_host_without_containerd_and_its_file_has_no_runtimes() -> None:
    assert names(Recorded({})) == []


@pytest.mark.parametrize(("name", "known"), (FILES | {"v3old": False}).items())
def test_where_containerd_cannot_be_asked_its_version_line_counts(name: str, known: bool) -> None:
    assert names(host(name)) == ["kata"] * known


def test_the_file_is_the_one_that_the_daemon_was_started_with() -> None:
    text, dump = (DATA / "v2.toml").read_text(), (DATA / "v2.dump.toml").read_text()
    reader = Recorded({"names": {"/proc": ["7"]}, "outputs": {
        "containerd --config /srv/c.toml config dump": {"out": dump}}, "texts": {
            "/srv/c.toml": text, "/proc/7/comm": "containerd\n", "/proc/7/status": ROOT,
            "/proc/7/cmdline": "/usr/bin/containerd\0--config\0/srv/c.toml\0"}})
    assert names(reader) == ["kata"]


@pytest.mark.parametrize(("words", "config"), [
    ("containerd", MAIN), ("containerd\0-c\0/a", "/a"), ("containerd\0--config=/b\0-l\0debug", "/b"),
    ("containerd\0--config", "")])
def test_how_a_daemon_names_its_file(words: str, config: str) -> None:
    texts = {"/proc/7/comm": "containerd\n", "/proc/7/status": ROOT, "/proc/7/cmdline": f"{words}\0"}
    found = read_daemon(Recorded({"names": {"/proc": ["7"]}, "texts": texts}))
    assert found == Daemon(7, config)


def test_one_that_is_asked_for_its_version_is_no_daemon() -> None:
    """doctor asks it beside its look for the daemon; anybody may type it meanwhile. Until somebody waits for it, one
    that has ended is still there, without words."""
    words_of = {6: "", 7: "containerd\0--version\0", 8: "containerd\0"}
    texts = {f"/proc/{pid}/{file}": text for pid, words in words_of.items()
             for file, text in (("comm", "containerd\n"), ("status", ROOT), ("cmdline", words))}
    texts["/proc/6/stat"] = stat(6, "Z")
    assert read_daemon(Recorded({"names": {"/proc": ["6", "7", "8"]}, "texts": texts})) == Daemon(8, MAIN)


@pytest.mark.parametrize(("users", "programs", "listening", "pid"), [
    ((ANN, ROOT), ("containerd", "containerd"), None, 8), ((ROOT, ROOT), ("sleep", "containerd"), None, 8),
    ((ROOT, ROOT), ("containerd", "containerd"), 8, 8), ((ROOT, ROOT), ("containerd", "containerd"), None, 7),
    ((ANN, ANN), ("containerd", "containerd"), None, None)])
def test_a_process_is_not_containerd_because_it_is_called_so(users: tuple[str, str], programs: tuple[str, str],
                                                             listening: int | None, pid: int | None) -> None:
    """A stranger's KATA_CONF_FILE would else be taken for containerd's."""
    texts = {f"/proc/{number}/{file}": text for number, user in zip((7, 8), users, strict=True)
             for file, text in (("comm", "containerd\n"), ("status", user))}
    links = {f"/proc/{number}/exe": f"/usr/bin/{program}" for number, program in zip((7, 8), programs, strict=True)}
    outputs = {LISTENS: {"out": f'u_str LISTEN 0 4096 /run/x 1 * 0 users:(("containerd",pid={listening},fd=9))\n'}
               } if listening else {}
    found = read_daemon(Recorded({"names": {"/proc": ["7", "8"]}, "texts": texts, "links": links, "outputs": outputs}))
    assert (found.pid if found else None) == pid


@pytest.mark.parametrize(("answer", "pid"), [
    (None, 7), ({"status": 1, "err": "ss: bad filter"}, 7), ({"out": ""}, None),
    ({"out": "u_str LISTEN 0 4096 /run/containerd/containerd.sock 1 * 0\n"}, 7),
    ({"out": 'u_str LISTEN 0 4096 /run/containerd/containerd.sock 1 * 0 users:(("containerd",pid=8,fd=9))\n'}, 8)])
def test_one_that_does_not_listen_there_is_not_the_systems(answer: dict[str, Any] | None, pid: int | None) -> None:
    """Such as vmtool's private one, or k3s's. Where nobody can say who listens, the oldest is meant: without ss, and
    for an ordinary user, to whom it shows no process."""
    texts = {f"/proc/{number}/{file}": text for number in (7, 8)
             for file, text in (("comm", "containerd\n"), ("status", ROOT))}
    found = read_daemon(Recorded({"names": {"/proc": ["7", "8"]}, "texts": texts,
                                  "outputs": {LISTENS: answer} if answer else {}}))
    assert (found.pid if found else None) == pid


def test_one_in_a_container_is_not_this_hosts() -> None:
    texts = {f"/proc/{number}/{file}": text for number in (7, 8)
             for file, text in (("comm", "containerd\n"), ("status", f"{ROOT}NSpid:\t{number}\n"))}
    texts["/proc/7/status"] = f"{ROOT}NSpid:\t7\t1\n"
    assert read_daemon(Recorded({"names": {"/proc": ["7", "8"]}, "texts": texts})) == Daemon(8, MAIN)
