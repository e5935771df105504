"""What is claimed about evidence of virtCCA: a token of CCA's form, and the certificate of the device that signs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vmtool.attest.appraisal import Appraisal, Check, NotRequested, appraise, compare
from vmtool.attest.cca.claims import realm_checks, verify_lifecycle, verify_platform
from vmtool.attest.cca.ima_log import replay_ima
from vmtool.attest.cca.token import Token, parse_token
from vmtool.attest.certificates import load_certificates, require_leaf, verify_chain
from vmtool.attest.cose import PublicKey, verify_sign1
from vmtool.attest.cursor import require
from vmtool.attest.find_chain import find_path
from vmtool.attest.foreign_json import mapping, octets
from vmtool.attest.request import Request
from vmtool.attest.tpm.event_log import BANKS, SIZES
from vmtool.attest.tpm.guest_log import verify_guest_log
from vmtool.frozen import dataclass
from vmtool.tee.virtcca import VIRTCCA

# Logs by their name, with their parts where they have some.
IMA = "ima_log"
LOGS = {"event_log": frozenset[str](), IMA: frozenset[str](), "uefi_log": frozenset({"ccel_table", "ccel_data"})}
EVENTS = {"uefi_log": "ccel_data"}
FIRMWARE = LOGS.keys() - {IMA}
BY_SIZE = {SIZES[algorithm]: bank for bank, (algorithm, _) in BANKS.items()}
KEYS = frozenset({"evidence", "dev_cert", *LOGS})
# ShangMi signatures (GM/T 0006), which cryptography does not know.
SM2 = "1.2.156.10197.1.501"


def appraise_virtcca(document: Mapping[str, Any], request: Request) -> Appraisal:
    """Check evidence as openEuler's attestation agent writes it.

    Raises:
        NotProven: a part is missing or odd.
    """
    fields = mapping(document, "the evidence", KEYS)
    token = parse_token(octets(fields.get("evidence"), "evidence"))
    device, *more = load_certificates(octets(fields.get("dev_cert"), "dev_cert"))
    logs = {name: _log(name, fields[name]) for name in LOGS if fields.get(name) is not None}
    require(len(logs.keys() & FIRMWARE) <= 1, "there are two logs of the firmware")
    return appraise(VIRTCCA.name, VIRTCCA.title, _Checks(token, device, tuple(more), request, logs).all())


def _log(name: str, value: object) -> bytes:
    """A log; of one with parts that which has the events."""
    parts = mapping(value, name, LOGS[name]) if LOGS[name] else {name: value}
    found = {key: octets(part, name) for key, part in parts.items()}
    require(all(found.values()) and EVENTS.get(name, name) in found, f"{name} is empty")
    return found[EVENTS.get(name, name)]


@dataclass(frozen=True)
class _Checks:
    token: Token
    device: x509.Certificate
    presented: tuple[x509.Certificate, ...]
    request: Request
    logs: Mapping[str, bytes]

    def all(self) -> Iterator[Check]:
        yield "format", lambda: "with the platform's part" if self.token.platform else "without the platform's part"
        yield "chain", self.verify_chain
        yield from self.request.chain_checks(lambda: self.chain)
        yield "platform-signature", self.platform_signature
        yield "debug", self.lifecycle
        yield "platform", self.platform
        yield from realm_checks(self.token.realm, self.token.platform, self.request, self.request.reference.virtcca)
        yield "event-log", self.event_log

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        require(self.device.signature_algorithm_oid.dotted_string != SM2,
                "the device's certificate is signed with SM2, which vmtool cannot verify")
        pool = (*self.presented, *self.request.collateral.certificates)
        return find_path(self.device, pool, self.request.roots.certificates("virtcca-"))

    def verify_chain(self) -> str:
        require_leaf(self.device)
        return verify_chain(self.chain)

    def platform_signature(self) -> str:
        """By the device's key; without the platform's part the realm's key must be the device's own."""
        key = self._device_key()
        if self.token.platform is not None:
            return verify_sign1(self.token.platform.message, key)
        require(_spki(self.token.realm.key) == _spki(key),
                "the platform's part is absent, and the guest's key is not the device's")
        return "the guest's key is the device's own"

    def lifecycle(self) -> str:
        if self.token.platform is None:
            raise NotRequested("without the platform's part nothing says it")
        return verify_lifecycle(self.token.platform)

    def platform(self) -> str:
        """Who expects values of the platform does not take a token that leaves its part out."""
        expected = self.request.reference.virtcca
        if self.token.platform is None:
            require(expected.implementation is None and not expected.software, "the platform's part is absent")
            raise NotRequested("the platform's part is absent")
        return verify_platform(self.token.platform, expected)

    def _device_key(self) -> PublicKey:
        key = self.device.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise TypeError("the device's key is neither of EC nor of RSA")
        return key

    def event_log(self) -> str:
        """Each log leads to the registers that the token shows."""
        if not self.logs:
            raise NotRequested("no event log was presented")
        rems = self.token.realm.rems
        bank = BY_SIZE[len(rems[0])]
        found = [verify_guest_log(self.logs[name], bank, rems, "REM") for name in self.logs.keys() & FIRMWARE]
        if IMA in self.logs:
            number, value = replay_ima(self.logs[IMA], bank)
            compare(f"REM{number} by the IMA log", rems[number], value)
            found.append(f"the IMA log leads to REM{number}")
        return "; ".join(found)


def _spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
