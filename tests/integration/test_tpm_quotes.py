"""Quotes of real TPM code: Debian's swtpm, asked by Debian's tpm2-tools, verified by `vmtool attest`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from tests.integration.connect import software_tpm
from tests.unit.attest.cases import is_accepted, request, unproven
from tests.unit.attest.make_certificates import Form, Issued, certify, issue
from tests.unit.attest.make_tpm import EVENTS, log
from vmtool.attest.measure.boot_events import extend
from vmtool.attest.request import Roots
from vmtool.attest.tpm.ask import evidence_of
from vmtool.attest.tpm.challenge import challenge_for
from vmtool.libvirt.initramfs_files import REGISTERS
from vmtool.libvirt.tpm_claims import judge_quote
from vmtool.serving.evidence.tpm_commands import key_command, quote_command

NONCE = bytes(range(20))
SELECTED = (0, 4, 8)
# TPM_RC_RETRY, upon which Linux asks again.
RETRY = bytes.fromhex("00000922")


@dataclass(frozen=True)
class SoftwareTpm:
    """A running TPM with an attestation key; its files are in `directory`."""

    directory: Path
    algorithm: str = "ecc"
    scheme: str = "ecdsa"

    def run(self, program: str, *words: str) -> str:
        """One of tpm2-tools."""
        argv = [f"tpm2_{program}", "-T", f"swtpm:path={self.directory}/socket", *words]
        return subprocess.run(argv, cwd=self.directory, check=True, capture_output=True, text=True, timeout=60).stdout

    def make_key(self) -> None:
        self.run("createek", "-c", "ek.ctx", "-G", self.algorithm, "-u", "ek.pem", "-f", "pem")
        self.run("createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", self.algorithm, "-g", "sha256", "-s", self.scheme,
                 "-u", "ak.pub", "-n", "ak.name")
        self.run("flushcontext", "-t")

    def measure(self, events: Sequence[tuple[int, int, bytes]]) -> None:
        for register, _, event in events:
            self.run("pcrextend", f"{register}:sha256={hashlib.sha256(event).hexdigest()}")

    def quote(self, nonce: bytes = NONCE) -> dict[str, Any]:
        """The evidence, with the registers as they are now."""
        selection = f"sha256:{','.join(map(str, SELECTED))}"
        self.run("quote", "-c", "ak.ctx", "-l", selection, "-q", nonce.hex(), "-m", "quote", "-s", "signature",
                 "-g", "sha256", "--scheme", self.scheme)
        self.run("pcrread", selection, "-o", "values")
        values = (self.directory / "values").read_bytes()
        parts = {"quote": "quote", "signature": "signature", "ak_public": "ak.pub"}
        evidence: dict[str, Any] = {name: base64.b64encode((self.directory / file).read_bytes()).decode()
                                    for name, file in parts.items()}
        return evidence | {"pcrs": {"sha256": {str(number): values[32 * place:32 * place + 32].hex()
                                               for place, number in enumerate(SELECTED)}}}

    def endorsed(self, maker: Issued) -> bytes:
        """What a maker would have put into the TPM: a certificate of its EK."""
        key = load_pem_public_key((self.directory / "ek.pem").read_bytes())
        form = Form(authority=False, extensions=[("2.5.29.37", bytes.fromhex("300706056781050801"))])
        return certify("EK", (maker.certificate.subject, maker.key), form, key).public_bytes(Encoding.PEM)

    def activate(self, credential: bytes) -> bytes:
        """What it says to a challenge; tpm2_activatecredential(1) needs a session for the EK's policy."""
        (self.directory / "credential").write_bytes(credential)
        self.run("startauthsession", "--policy-session", "-S", "session")
        self.run("policysecret", "-S", "session", "-c", "e")
        self.run("activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "secret", "-P",
                 "session:session")
        self.run("flushcontext", "session")
        self.run("flushcontext", "-t")
        return (self.directory / "secret").read_bytes()

    @property
    def key(self) -> str:
        return (self.directory / "ak.name").read_bytes().hex()


@contextlib.contextmanager
def running(directory: Path, *kind: str) -> Iterator[SoftwareTpm]:
    directory.mkdir()
    with software_tpm.running(directory):
        tpm = SoftwareTpm(directory, *kind)
        tpm.make_key()
        yield tpm


@pytest.fixture(params=[("ecc", "ecdsa"), ("rsa", "rsassa"), ("rsa", "rsapss")], ids="-".join)
def tpm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SoftwareTpm]:
    with running(tmp_path / "tpm", *request.param) as found:
        yield found


def test_the_agents_question_is_one_that_a_tpm_answers(tmp_path: Path) -> None:
    """What the agent of a libvirt guest sends, and what the claim makes of the answers."""
    with running(tmp_path / "tpm") as tpm:
        tpm.measure([(9, 13, b"command line")])

        def sent(command: bytes) -> bytes:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.connect(str(tpm.directory / "socket"))
                while True:
                    channel.sendall(command)
                    answer = channel.recv(4096)
                    if answer[6:10] != RETRY:
                        return answer

        key, nonce = sent(key_command()), bytes(range(32))
        evidence = evidence_of(key, sent(quote_command(key[10:14], nonce, REGISTERS)), log(((9, 13, b"command line"),)))
    expected = {"sha256": {4: bytes(32).hex(), 9: extend([b"command line"], hashlib.sha256).hex()}}
    answer = {"nonce": nonce.hex(), "evidence": evidence, "expected": {"keys": [], "pcrs": expected}}
    assert judge_quote(json.dumps(answer)).verdict == "proven"
    assert judge_quote(json.dumps(answer | {"nonce": "00" * 32})).verdict == "failed"
    expected["sha256"][9] = extend([b"another command line"], hashlib.sha256).hex()
    assert judge_quote(json.dumps(answer)).verdict == "failed"


def encode(evidence: dict[str, Any]) -> bytes:
    return json.dumps(evidence).encode()


def test_a_quote_is_proven_and_a_changed_boot_is_not(tpm: SoftwareTpm, tmp_path: Path) -> None:
    tpm.measure(EVENTS)
    good = tpm.quote() | {"event_log": base64.b64encode(log(EVENTS)).decode()}
    pcrs = {"sha256": {int(number): value for number, value in good["pcrs"]["sha256"].items()}}
    asked = request(nonce=NONCE, tpm={"keys": [tpm.key], "pcrs": pcrs})
    assert unproven(encode(good), asked) == []
    assert unproven(encode(good), request(nonce=NONCE[::-1], tpm={"keys": [tpm.key]})) == ["tpm.freshness"]
    assert unproven(encode(good), request(nonce=NONCE)) == ["tpm.key-binding"]

    tpm.measure([(8, 13, b"another command line")])
    changed = tpm.quote()
    assert unproven(encode(changed), asked) == ["tpm.measurement"]
    assert not is_accepted(encode(changed | {"event_log": good["event_log"]}), asked)
    assert not is_accepted(encode(changed | {"pcrs": good["pcrs"]}), asked), "the old values beside a new quote"

    with running(tmp_path / "other") as other:
        other.measure(EVENTS)
        assert unproven(encode(other.quote()), asked) == ["tpm.key-binding"]
        assert not is_accepted(encode(other.quote() | {"ak_public": good["ak_public"]}), asked)


def test_a_tpm_answers_for_its_own_key_and_no_other_does(tpm: SoftwareTpm, tmp_path: Path) -> None:
    maker = issue("TPM Maker")
    asked = request(nonce=NONCE, roots=Roots({"tpm-maker.pem": maker.pem}))
    evidence = tpm.quote() | {"ek_certificate": base64.b64encode(tpm.endorsed(maker)).decode()}
    assert unproven(encode(evidence), asked) == ["tpm.key-binding"]
    credential, kept = challenge_for(evidence, asked)
    asked = replace(asked, challenge=kept.encode())
    answer = {"activated": base64.b64encode(tpm.activate(credential)).decode()}
    assert unproven(encode(evidence | answer), asked) == []

    with running(tmp_path / "other") as other, pytest.raises(subprocess.CalledProcessError):
        other.activate(credential)
    tpm.make_key()
    with pytest.raises(subprocess.CalledProcessError):
        tpm.activate(credential)
