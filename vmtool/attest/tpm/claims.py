"""What is claimed about a TPM's quote."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vmtool.attest.appraisal import Appraisal, Check, NotChecked, NotRequested, appraise, compare
from vmtool.attest.certificates import require_leaf, verify_chain
from vmtool.attest.cursor import require
from vmtool.attest.find_chain import find_path
from vmtool.attest.request import Request
from vmtool.attest.tpm.booted import what_differs
from vmtool.attest.tpm.challenge import (
    read_challenge,
    require_attestation_key,
    verify_activation,
    verify_endorsement,
)
from vmtool.attest.tpm.event_log import BANKS, SIZES, Event, parse_log, replay
from vmtool.attest.tpm.evidence_json import Presented, Registers, parse_evidence
from vmtool.attest.tpm.structures import (
    AttestationKey,
    Quote,
    parse_public,
    parse_quote,
    verify_signature,
)
from vmtool.frozen import dataclass

LABEL, TITLE = "tpm", "TPM 2.0"

def appraise_tpm(value: Any, request: Request) -> Appraisal:
    """Check a quote, its key, and the registers and the event log that go with it.

    Raises:
        NotProven: it is none.
    """
    presented = parse_evidence(value)
    quote, key = parse_quote(presented.quote), parse_public(presented.key)
    return appraise(LABEL, TITLE, _Checks(presented, quote, key, request).all())


@dataclass(frozen=True)
class _Checks:
    presented: Presented
    quote: Quote
    key: AttestationKey
    request: Request

    def all(self) -> Iterator[Check]:
        yield "format", lambda: " ".join(f"{bank}:{','.join(map(str, found))}"
                                         for bank, found in self.quote.selected.items())
        yield "key-binding", self.key_binding
        # A chain says something where it vouches for the key: no other is verified.
        asked = self.request.challenge is not None
        if (self.presented.certificates or self.presented.endorsement) and (
                asked or not self.request.reference.tpm.keys):
            yield from self.request.chain_checks(lambda: self.chain)
        yield "signature", self.signature
        yield "freshness", self.freshness
        yield "registers", self.verify_registers
        yield "event-log", self.event_log
        yield "measurement", self.measurement

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Of what vouches for the key: of the TPM that answered a challenge, else of the key's own certificate."""
        asked = self.request.challenge is not None
        presented = (not asked and self.presented.certificates) or self.presented.endorsement
        require(bool(presented), "a challenge needs the certificate of the endorsement key (ek_certificate)")
        return find_path(presented[0], (*presented[1:], *self.request.collateral.certificates),
                         self.request.roots.certificates("tpm-"))

    def key_binding(self) -> str:
        """The key is one of a TPM that is known: enrolled, else by a certificate or by the TPM's answer."""
        self.key.require_restricted()
        name, enrolled = self.key.name, self.request.reference.tpm.keys
        require(not enrolled or name in enrolled, f"the key {name.hex()} is not enrolled")
        if self.request.challenge is not None:
            return self.activated(self.request.challenge)
        if enrolled:
            return f"the key {name.hex()} is enrolled"
        if not self.presented.certificates:
            raise NotChecked(f"the key {name.hex()} has no certificate and none is enrolled: --reference, or "
                             "vmtool attest challenge")
        return self.certified()

    def activated(self, challenge: bytes) -> str:
        """The TPM of a certain maker has decrypted what was encrypted for its EK and this key alone."""
        verify_activation(read_challenge(challenge), self.chain[0], self.key.name, self.presented.activated)
        return f"activated by the TPM of {verify_endorsement(self.chain)}"

    def certified(self) -> str:
        require_leaf(self.chain[0])
        require_attestation_key(self.chain[0])
        certified = self.chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        require(certified == self.key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                "the certificate is of another key")
        return verify_chain(self.chain)

    def signature(self) -> str:
        return f"with {self.digest_hash}"

    @cached_property
    def digest_hash(self) -> str:
        return verify_signature(self.presented.quote, self.presented.signature, self.key.key)

    def freshness(self) -> str:
        if self.request.nonce is None:
            raise NotRequested(f"nonce is {self.quote.extra.hex()}; no nonce given: --nonce HEX")
        return compare("nonce", self.quote.extra, self.request.nonce)

    @cached_property
    def registers(self) -> Registers:
        """The values that were quoted: as presented, else as the event log leads to them."""
        found: Registers = self.presented.registers or self.replayed
        values = b""
        self.require_quoted(self.presented.registers)
        for bank, selected in self.quote.selected.items():
            missing = [number for number in selected if number not in found.get(bank, {})]
            require(not missing, f"the values of {bank} registers {missing} were not presented")
            odd = [number for number in selected if len(found[bank][number]) != SIZES[BANKS[bank][0]]]
            require(not odd, f"the values of {bank} registers {odd} are none of {bank}")
            values += b"".join(found[bank][number] for number in selected)
        compare("the registers' digest", self.quote.digest, BANKS[self.digest_hash][1](values).digest())
        return {bank: {number: found[bank][number] for number in selected}
                for bank, selected in self.quote.selected.items()}

    def require_quoted(self, presented: Registers) -> None:
        """Nothing is presented that was not quoted: nobody signed that."""
        for bank, values in presented.items():
            more = sorted(values.keys() - set(self.quote.selected.get(bank, ())))
            require(not more, f"{bank} registers {more} were presented, and not quoted")

    @cached_property
    def events(self) -> tuple[Event, ...]:
        if not self.presented.log:
            raise NotChecked("neither registers nor an event log were presented")
        return parse_log(self.presented.log)

    @cached_property
    def replayed(self) -> Registers:
        return {bank: replay(self.events, bank) for bank in self.quote.selected}

    def verify_registers(self) -> str:
        return f"{sum(map(len, self.registers.values()))} registers are those that were quoted"

    def event_log(self) -> str:
        if not self.presented.log:
            raise NotRequested("no event log was presented")
        for bank, registers in self.registers.items():
            differ = [number for number, value in registers.items() if self.replayed[bank][number] != value]
            require(not differ, f"the event log does not lead to {bank} registers {differ}")
        return "leads to the quoted registers"

    def measurement(self) -> str:
        expected = self.request.reference.tpm.pcrs
        if not any(expected.values()):
            raise NotRequested("nothing to compare with: --reference")
        wrong = [self.differing(bank, number) for bank, values in expected.items() for number, allowed in values.items()
                 if self.registers.get(bank, {}).get(number) not in allowed]
        require(not wrong, "; ".join(wrong))
        return " ".join(f"{bank}:{','.join(map(str, values))}" for bank, values in expected.items())

    def differing(self, bank: str, number: int) -> str:
        """What a register shows that is not as expected, and why, where an event log leads to it."""
        found = self.registers.get(bank, {}).get(number)
        if found is None:
            return f"{bank} register {number} was not quoted"
        shown = f"{bank} register {number} is {found.hex()}"
        if not self.presented.log or self.replayed[bank][number] != found:
            return shown
        why = what_differs(self.events, self.request.reference.launch, bank, number)
        return f"{shown}: {why}" if why else shown
