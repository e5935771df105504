"""Asking a guest's agent, with one that reads from a script at the other end of the socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import ProgramFailed, VmtoolError
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.guest_agent import LAST, encode_request, exchange, last_words

Asked = Callable[..., GuestRequest]


class Guarding(FakeHost):
    """QEMU lives while its pid file is not empty; time is real, since the other end of the channel is a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = {7: "700"}

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """An action for an agent whose QEMU lives as long as the pid file is not empty."""
    (tmp_path / "pid").write_text("7 700\n")
    (tmp_path / "console").write_text("booting\nvmtool: there is no disk model\n")

    def make(verb: str, source: str | None = None, deadline: float = 60.0) -> GuestRequest:
        if source is not None:
            (tmp_path / "source").write_text(source)
        return GuestRequest(tmp_path / "agent", verb, tmp_path / "pid", tmp_path / "console",
                        tmp_path / "source" if source is not None else None, tmp_path / "evidence", deadline=deadline)

    return make


def hear(action: GuestRequest, *pieces: bytes) -> str:
    """The answer of a guest that says these pieces."""
    host, guest = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError):
            guest.recv(4096)
            for piece in pieces:
                guest.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with host, guest:
        return exchange(Guarding(), host, action)


def test_the_answer_comes_in_pieces_and_is_kept(asked: Asked, tmp_path: Path) -> None:
    assert hear(asked("report"), b"kernel 6.1\nweekend\nen", b"d\n") == "kernel 6.1\nweekend\n"
    assert (tmp_path / "evidence").read_text() == "kernel 6.1\nweekend\n"
    assert (tmp_path / "evidence").stat().st_mode & 0o777 == 0o600


def test_a_refusal_is_an_error(asked: Asked) -> None:
    with pytest.raises(VmtoolError, match="refused report: no network device"):
        hear(asked("report"), b"refused no network device\nend\n")


def test_the_reason_is_told_before_the_trace_that_follows_it(tmp_path: Path) -> None:
    reasons = ["device-mapper: verity: 253:0: data block 0 is corrupted", "Kernel panic - not syncing: dm-verity"]
    trace = [f"  frame {number}" for number in range(40)]
    (tmp_path / "console").write_text("\n".join(["booting", *reasons, *trace]))
    assert last_words(FakeHost(), tmp_path / "console") == [*reasons, *trace[-LAST:]]
    assert last_words(FakeHost(), tmp_path / "nothing") == []


@pytest.mark.timing
def test_a_guest_that_says_nothing_is_told_with_its_console(asked: Asked) -> None:
    with pytest.raises(ProgramFailed, match="did not answer within 0 s") as failed:
        hear(asked("report", deadline=0.3), b"kernel")
    assert failed.value.details[-1] == "vmtool: there is no disk model"


def test_a_guest_that_ended_is_not_waited_for(asked: Asked, tmp_path: Path) -> None:
    action = asked("report")
    (tmp_path / "pid").write_text("")
    with pytest.raises(ProgramFailed, match="the guest ended"):
        hear(action)


@pytest.mark.timing
@pytest.mark.parametrize("seconds", [0.0, 0.2], ids=["before it is asked", "with the question unread"])
def test_a_qemu_that_closes_the_channel_is_looked_for(asked: Asked, tmp_path: Path, seconds: float) -> None:
    """A guest that dies before it has opened its port: EPIPE, or ECONNRESET, and not what a person should read."""
    action = asked("report")
    host, guest = socket.socketpair()

    def die() -> None:
        (tmp_path / "pid").write_text("")
        guest.close()

    timer = threading.Timer(seconds, die)
    timer.start()
    if not seconds:
        timer.join()
    with host, pytest.raises(ProgramFailed, match="asked for report, the guest ended") as failed:
        exchange(Guarding(), host, action)
    assert failed.value.details[-1] == "vmtool: there is no disk model"


def test_a_guest_that_never_ends_its_answer_is_not_heard_for_ever(asked: Asked) -> None:
    with pytest.raises(ProgramFailed, match="did not answer"):
        hear(asked("report"), *[b"x" * 4096] * 65)


def test_what_is_asked(asked: Asked) -> None:
    result = json.dumps({"ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}]})
    assert encode_request(FakeHost(), asked("network", result)) == b"network 10.1.2.3/24 10.1.2.1\n"
    assert encode_request(FakeHost(), asked("serve", "key-one\n\n key-two \n")) == b"serve\nkey-one\nkey-two\n.\n"
    assert encode_request(FakeHost(), asked("report")) == b"report\n"


@pytest.mark.parametrize(("verb", "source"), [("network", "{}"), ("network", "no json"), ("serve", "key\n.\nmore")])
def test_a_file_that_is_not_what_it_should_be(asked: Asked, verb: str, source: str) -> None:
    with pytest.raises(VmtoolError):
        encode_request(FakeHost(), asked(verb, source))
