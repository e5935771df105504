"""What a server with a processor that only tests trust answers, and a policy that takes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.fakes.snp_signer import MEASUREMENT, signer
from vmtool.attest.request import Collateral, Roots
from vmtool.connect.policy import Policy, read_policy
from vmtool.connect.verify import Trusted, Verified, verify
from vmtool.serving.evidence.collect import document
from vmtool.serving.evidence.collected import Collected

NONCE, KEY = bytes(range(32)), bytes(range(100, 132))
NOW = datetime(2026, 11, 26, tzinfo=UTC)
HEAD = "apiVersion: vmtool/v1\nkind: ConnectPolicy\n"
SNP = f"{HEAD}reference:\n  snp: {{measurement: '{MEASUREMENT.hex()}'}}\n"
UNCONFIDENTIAL = f"{HEAD}allow_unconfidential: true\n"


def policy(directory: Path, text: str) -> Policy:
    path = directory / "policy.yaml"
    path.write_text(text)
    return read_policy(path)


def attested(bound: bytes, *changes: tuple[int, bytes]) -> Collected:
    """What configfs gives."""
    return Collected("snp", signer().report(bound.ljust(64, b"\0"), *changes), signer().table)


def answer(asked: bytes = NONCE, shown: bytes = KEY, ask: Any = attested, **changes: object) -> bytes:
    """The server's answer, with members changed."""
    return json.dumps({**document(asked, shown, ask), **changes}).encode()


def judge(data: bytes, wanted: Policy, *, nonce: bytes = NONCE, key: bytes = KEY, roots: bytes | None = None,
          collateral: Collateral | None = None) -> Verified:
    trusted = Trusted(Roots({"amd-turin.pem": signer().roots if roots is None else roots}), collateral or Collateral())
    return verify(data, nonce, key, wanted, trusted, NOW)
