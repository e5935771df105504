"""Models: encrypted file by file. What is done stays, so that the next try goes on there."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.machine import FakeMachine
from tests.unit.sweeps.engine import Case
from vmtool.models.encryption.facts import EncryptionFacts, SourceFile
from vmtool.models.encryption.plan_encrypt import plan_encrypt
from vmtool.models.encryption.progress import SourceState
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer

SOURCE, TARGET, KEYS = Path("/m"), Path("/out"), (Path("/master.jwk"), Path("/signer.jwk"))
NAMES = ("config.json", "model.safetensors")


def host(state: State) -> FakeMachine:
    return FakeMachine(files={str(SOURCE / name): name for name in NAMES})


def encrypt(state: State, machine: FakeMachine) -> Plan:
    files = tuple(SourceFile(name, SOURCE / name, True, False, SourceState(9, 1, number), None)
                  for number, name in enumerate(NAMES))
    return plan_encrypt(state, EncryptionFacts(files, (), False, None), SOURCE, TARGET, KEYS,
                        MasterKey("m", "aes256gcm", bytes(32)), Signer("s", bytes(32), bytes(32)))


CASES = {"model encrypt": Case(host, encrypt, {
    r"files /out(/[^.][^/]*|/\.[^/]*\.vmtool-done)?": "what is done stays, and is of no use without the key"})}
