"""containerd: binaries, the daemon's answer, and who may not ask."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from vmtool.containerd.daemon_facts import ADDRESS
from vmtool.containerd.facts import imports_by_daemon, read_containerd, read_runc

CTR = f"ctr --address {ADDRESS} --connect-timeout 1s"
SOCKET, WRITABLE = f"stat -c %F {ADDRESS}", f"test -w {ADDRESS}"


@pytest.mark.parametrize(("host", "versions", "answers", "server", "snapshotters"), [
    ("debian12-pvm", ("1.6.20~ds1", "1.6.20~ds1"), False, None, ()),
    ("epyc-snp", ("1.7.27", "1.7.27"), True, "1.7.27", ("native", "overlayfs")),
])
def test_recorded(host: str, versions: tuple[str, str], answers: bool, server: str | None,
                  snapshotters: tuple[str, ...]) -> None:
    facts = read_containerd(Recorded.load(host))
    assert (facts.version, facts.ctr_version) == versions
    assert (facts.answers, facts.server_version, facts.snapshotters) == (answers, server, snapshotters)
    assert facts.shim == "/usr/bin/containerd-shim-runc-v2"


@pytest.mark.parametrize(("outputs", "answers"), [
    ({SOCKET: {"status": 1, "err": "stat: cannot statx: No such file or directory\n"}}, False),
    ({SOCKET: {"status": 1, "err": "stat: cannot statx: Permission denied\n"}}, None),
    ({WRITABLE: {"status": 1}}, None),
    ({f"{CTR} version": {"status": 1, "out": "Client:\n  Version:  1.7.27\n", "err": "ctr: failed to dial\n"}}, False),
    ({f"{CTR} version": None}, False),
    ({f"{CTR} version": {"out": "Client:\n  Version:  1.7.27\n"}}, False),
    ({f"{CTR} plugins ls": None}, True),
], ids=["no socket", "closed directory", "not writable", "nobody behind it", "hangs", "no server", "no plugins told"])
def test_answers(outputs: dict[str, Any], answers: bool | None) -> None:
    facts = read_containerd(Recorded.load("epyc-snp", outputs=outputs))
    assert facts.answers is answers
    assert facts.snapshotters == ()


def test_without_ctr_nobody_can_ask() -> None:
    assert read_containerd(Recorded.load("epyc-snp", which={"ctr": None})).answers is None


def test_runc() -> None:
    runc = read_runc(Recorded.load("debian12-pvm"))
    assert (runc.binary, runc.version) == ("/usr/sbin/runc", "1.1.5+ds1")


# What `--version` says of Debian's, of Docker's package and of the project's own releases.
@pytest.mark.parametrize(("words", "version"), [
    ("github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1", "1.6.20~ds1"),
    ("github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1", "1.7.24~ds1"),
    ("containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", "1.7.27"),
    ("containerd.io v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376", "2.1.4"),
    ("github.com/containerd/containerd/v2 v2.0.0 207ad711eabd375a01713109a8a197d197ff6542", "2.0.0"),
    ("github.com/containerd/containerd/v2 v2.2.0 1c4457e00facac03ce1d75f7b6777a7a851e5c41", "2.2.0"),
])
def test_the_version_of_each_distribution_is_read(words: str, version: str) -> None:
    outputs = {f"/usr/bin/{name} --version": {"out": f"{name} {words}\n"} for name in ("containerd", "ctr")}
    outputs[f"{CTR} version"] = {"out": f"Client:\n  Version:  v{version}\n  Revision: 0\n  Go version: go1.24.2\n\n"
                                 f"Server:\n  Version:  v{version}\n  Revision: 0\n  UUID: 0a-1b\nWARNING: revision "
                                 "mismatch\n"}
    facts = read_containerd(Recorded.load("epyc-snp", outputs=outputs))
    assert (facts.version, facts.ctr_version, facts.server_version) == (version, version, version)
    assert (facts.answers, facts.snapshotters) == (True, ("native", "overlayfs"))
    assert imports_by_daemon(Recorded.load("epyc-snp", outputs=outputs)) is (version[:3] != "1.6")
