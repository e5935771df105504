"""The key that an endpoint has made is learnt from its log, and from nobody who answers in its place."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from vmtool.errors import ProgramFailed, VerificationFailed
from vmtool.host.local import LocalHost
from vmtool.serving.access_list import Certificates
from vmtool.serving.events import event_text
from vmtool.serving.evidence.binding import key_digest
from vmtool.serving.front.tls import make_own
from vmtool.tls.workers import learn

OWN, OTHER = (make_own(Certificates((), b"", own=True)).chain[0] for _ in range(2))


class Answering(LocalHost):
    """A host on which somebody shows a certificate, at the second look; the workload lives for a while."""

    def __init__(self, shown: bytes, lives: int = 100) -> None:
        self.shown, self.looks, self.lives = shown, 0, lives

    def shown_certificate(self, host: str, port: int, *, deadline: float) -> bytes:
        self.looks += 1
        return self.shown if self.looks > 1 else b""

    def living(self, pidfile: Path) -> int | None:
        return 7 if self.looks < self.lives else None

    def sleep(self, seconds: float) -> None:
        pass

    def now(self) -> float:
        return float(self.looks)


def pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def order(directory: Path, *named: bytes) -> learn.Order:
    lines = [f"vmtool     0.4{number} s  {event_text(1.0, 'tls-key', digest=key_digest(der).hex())}\n"
             for number, der in enumerate(named)]
    (directory / "log").write_text("vmtool     0.01 s  starting vLLM\n" + "".join(lines))
    return learn.Order("127.0.0.1", 8000, directory / "none", directory, directory / "pid", directory / "log", 50.0)


def test_the_key_that_the_log_names_is_learnt(tmp_path: Path) -> None:
    learn.run(order(tmp_path, OWN), Answering(pem(OWN)))
    assert (tmp_path / "trusted.pem").read_bytes() == pem(OWN)
    assert b"PUBLIC KEY" in (tmp_path / "public.pem").read_bytes()


def test_who_answers_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="shows another TLS key"):
        learn.run(order(tmp_path, OWN), Answering(pem(OTHER)))
    assert not (tmp_path / "trusted.pem").exists()


def test_a_line_that_the_engine_adds_changes_nothing(tmp_path: Path) -> None:
    learn.run(order(tmp_path, OWN, OTHER), Answering(pem(OWN)))
    with pytest.raises(VerificationFailed):
        learn.run(order(tmp_path, OWN, OTHER), Answering(pem(OTHER)))


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="no certificate that can be used"):
        learn.run(order(tmp_path, OWN), Answering(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))


@pytest.mark.parametrize(("lives", "why"), [(100, "no TLS key within 50 s"), (5, "ended before it was healthy")])
def test_without_a_line_of_it_nothing_is_learnt(tmp_path: Path, lives: int, why: str) -> None:
    with pytest.raises(ProgramFailed, match=why):
        learn.run(order(tmp_path), Answering(pem(OWN), lives))
