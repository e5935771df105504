"""What is claimed about a TDX quote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property

from vmtool.attest.appraisal import (
    Appraisal,
    Check,
    NotChecked,
    NotProven,
    NotRequested,
    Outdated,
    appraise,
    compare_padded,
    describe,
)
from vmtool.attest.certificates import load_certificates
from vmtool.attest.cursor import require
from vmtool.attest.request import Request, require_one_of
from vmtool.attest.revocation import verify_unrevoked
from vmtool.attest.tdx.quote import QuoteForm, check_form
from vmtool.attest.tdx.verify import Verified, is_outdated, verify_pem, verify_quote
from vmtool.attest.tpm.guest_log import verify_guest_log
from vmtool.frozen import dataclass
from vmtool.tee.tdx import TDX

# Bit 0 of the TD's attributes; bits 1 to 7 are under debugging too (Intel TDX module ABI, ATTRIBUTES).
DEBUG = 0xff
REGISTERS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")


def appraise_tdx(data: bytes, log: bytes, request: Request) -> Appraisal:
    """Check a quote against collateral of Intel.

    Args:
        log: of the guest's events; empty for none.

    Raises:
        NotProven: it is no quote.
    """
    return appraise(TDX.name, TDX.title, _Checks(data, check_form(data), log, request).all())


@dataclass(frozen=True)
class _Checks:
    data: bytes
    form: QuoteForm
    log: bytes
    request: Request

    def all(self) -> Iterator[Check]:
        reference = self.request.reference.tdx
        yield "format", lambda: f"quote version {self.form.version}"
        yield "chain", self.chain
        yield "signature", self.signature
        yield "revocation", self.revocation
        yield "collateral", self.collateral
        yield "tcb", self.status
        yield "tcb-floor", self.floor
        yield "debug", self.debug
        yield "freshness", lambda: self.request.fresh("report data", self.field("report_data"))
        yield "measurement", lambda: require_one_of("MRTD", self.field("mr_td"), reference.mrtd)
        for name in REGISTERS:
            yield name, lambda name=name: require_one_of(  # type: ignore[misc]
                name.upper(), self.field(f"rt_mr{name[-1]}"), getattr(reference, name))
        yield "host-data", lambda: self._padded("MRCONFIGID", "mr_config_id", reference.mrconfigid)
        yield "owner", lambda: self._padded("MROWNER", "mr_owner", reference.mrowner)
        yield "module", lambda: require_one_of("MRSEAM", self.field("mr_seam"), reference.mrseam)
        yield "event-log", self.event_log

    @cached_property
    def verified(self) -> Verified:
        collateral = self.request.collateral.tdx
        if not collateral:
            raise NotChecked("Intel's collateral for this platform is not there: --collateral FILE")
        reasons, found = [], []
        for text in collateral:
            try:
                found.append(verify_quote(self.data, text, self.request))
            except BaseException as error:
                reasons.append(describe(error))
        if found:  # whoever gives an older one along gains nothing by it
            return max(found, key=lambda each: each.age)
        outdated = all(is_outdated(text, self.request.at) for text in collateral)
        raise (Outdated if outdated else NotProven)("; ".join(reasons))

    def field(self, name: str) -> bytes:
        return bytes.fromhex(self.verified.fields[name])

    def chain(self) -> str:
        """Of the platform's key. dcap-qvl verifies it too, but not the last certificate, which it has itself."""
        return verify_pem(self.form.certificates, self.request)

    def signature(self) -> str:
        require(bool(self.verified.fields), "the report has no fields")
        return "of quote, quoting enclave and collateral, by Intel's root"

    def revocation(self) -> str:
        """By the collateral's lists, which are always there, and by a newer one that was given beside it."""
        require(bool(self.verified.fields), "the report has no fields")
        own, chain = "on none of the collateral's lists", load_certificates(self.form.certificates)
        try:
            return f"{own}; {verify_unrevoked(chain, self.request.collateral.crls, self.request.at)}"
        except (NotChecked, NotRequested):
            return own

    def collateral(self) -> str:
        issued, until = (datetime.fromisoformat(self.verified.tcb_info[name]) for name in ("issueDate", "nextUpdate"))
        return (f"of {issued:%Y-%m-%d}, {(self.request.at - issued).days} days old, valid until {until:%Y-%m-%d}, "
                f"evaluation {self.verified.age[0]}")

    def status(self) -> str:
        shown = " ".join((self.verified.status, *self.verified.advisories))
        require(self.verified.status in self.request.reference.tdx.tcb_status, f"the platform's firmware is {shown}")
        return shown

    def floor(self) -> str:
        least, (found, _) = self.request.reference.tdx.min_evaluation, self.verified.age
        if least is None:
            raise NotRequested("no floor given: --reference")
        require(found >= least, f"the collateral's evaluation is {found}, at least {least} is required")
        return f"evaluation {found}, at least {least}"

    def debug(self) -> str:
        attributes = self.field("td_attributes")
        require(not attributes[0] & DEBUG, f"TD attributes {attributes.hex()} allow debugging")
        return f"TD attributes {attributes.hex()}: no debugging"

    def event_log(self) -> str:
        if not self.log:
            raise NotRequested("no event log was presented")
        return verify_guest_log(self.log, "sha384", [self.field(f"rt_mr{name[-1]}") for name in REGISTERS], "RTMR")

    def _padded(self, what: str, name: str, expected: bytes | None) -> str:
        if expected is None:
            raise NotRequested(f"{self.field(name).hex()}; nothing to compare with: --reference")
        return compare_padded(what, self.field(name), expected)
