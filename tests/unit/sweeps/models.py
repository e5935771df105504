"""Models: encrypted file by file. What is done stays, so that the next try goes on there."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.machine import FakeMachine
from tests.unit.sweeps.engine import Case
from vmtool.models.encryption.facts import EncryptionFacts
from vmtool.models.encryption.plan_encrypt import plan_encrypt
from vmtool.models.encryption.progress import SourceFile, SourceState
from vmtool.models.rewrap.facts import RewrapFacts, RewrapFile
from vmtool.models.rewrap.plan_rewrap import plan_rewrap
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


def encrypted(state: State) -> FakeMachine:
    """A model that the old key opens."""
    return FakeMachine(files={str(SOURCE / name): f"old {name}" for name in (*NAMES, "vmtool-manifest.json")})


def rewrap(state: State, machine: FakeMachine) -> Plan:
    files = tuple(RewrapFile(name, name.endswith("safetensors"), 9, SourceState(9, 1, number), "", False, None)
                  for number, name in enumerate(NAMES))
    keys = MasterKey("m", "aes256gcm", bytes(32)), MasterKey("n", "aes256gcm", b"1" * 32)
    return plan_rewrap(state, RewrapFacts(files, (), False, False, 0o755, 0, None), SOURCE, (*KEYS, Path("/new.jwk")),
                       keys)


CASES = {"model encrypt": Case(host, encrypt, {
    r"files /out(/[^.][^/]*|/\.[^/]*\.vmtool-done)?": "what is done stays, and is of no use without the key"}),
    "model rewrap": Case(encrypted, rewrap, {
        r"files /\.m\.vmtool-rewrap(/.*)?": "what is done stays, and the next try goes on there"}, all_or_nothing=True)}
