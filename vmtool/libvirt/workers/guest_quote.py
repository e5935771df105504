"""A quote of a guest's TPM over a fresh nonce: a worker, since a guest need not answer."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from vmtool.attest.reference import read_reference
from vmtool.attest.tpm.ask import NONCE, evidence_of
from vmtool.frozen import dataclass
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.guest_agent import ask
from vmtool.machine import Host


@dataclass(frozen=True)
class Order:
    """See `vmtool.libvirt.actions.GuestRequest`.

    Args:
        reference: what the TPM must show; evidence: receives what it answered, as `vmtool attest verify` reads it.
    """

    channel: Path
    pidfile: Path
    console: Path
    reference: Path
    evidence: Path


def run(order: Order, host: Host) -> None:
    """Print nonce, evidence and what is expected."""
    reference = read_reference(order.reference)
    nonce = secrets.token_hex(NONCE)
    said = ask(host, GuestRequest(order.channel, f"quote {nonce}", order.pidfile, order.console))
    answer = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    log = base64.b64decode(answer.get("log", ""), validate=True)
    evidence = evidence_of(bytes.fromhex(answer.get("key", "")), bytes.fromhex(answer.get("quote", "")), log)
    host.write(order.evidence, json.dumps(evidence) + "\n")
    print(json.dumps({"nonce": nonce, "evidence": evidence, "expected": reference.tpm.model_dump(mode="json"),
                      "launch": reference.launch.model_dump(mode="json")}))
