"""What is claimed about a TDX quote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

import dcap_qvl
from cryptography.hazmat.primitives.serialization import Encoding

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
from vmtool.attest.certificates import load_certificates, verify_chain, verify_dates
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import parse_json
from vmtool.attest.request import Request, require_one_of
from vmtool.attest.tdx.quote import QuoteForm, check_form
from vmtool.frozen import dataclass
from vmtool.tee.tdx import TDX

# Bit 0 of the TD's attributes; bits 1 to 7 are under debugging too (Intel TDX module ABI, ATTRIBUTES).
DEBUG = 0xff
CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
REGISTERS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")


@dataclass(frozen=True)
class Verified:
    """What dcap-qvl has verified: the report's fields, the status of its firmware, the collateral's own values."""

    fields: Mapping[str, Any]
    status: str
    advisories: tuple[str, ...]
    tcb_info: Mapping[str, Any]


def appraise_tdx(data: bytes, request: Request) -> Appraisal:
    """Check a quote against collateral of Intel.

    Raises:
        NotProven: it is no quote.
    """
    return appraise(TDX.name, TDX.title, _Checks(data, check_form(data), request).all())


@dataclass(frozen=True)
class _Checks:
    data: bytes
    form: QuoteForm
    request: Request

    def all(self) -> Iterator[Check]:
        reference = self.request.reference.tdx
        yield "format", lambda: f"quote version {self.form.version}"
        yield "chain", self.chain
        yield "signature", self.signature
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

    @cached_property
    def verified(self) -> Verified:
        collateral = self.request.collateral.tdx
        if not collateral:
            raise NotChecked("Intel's collateral for this platform is not there: --collateral FILE")
        reasons = []
        for text in collateral:
            try:
                return verify_quote(self.data, text, self.request)
            except BaseException as error:
                reasons.append(describe(error))
        outdated = all(_is_outdated(text, self.request.at) for text in collateral)
        raise (Outdated if outdated else NotProven)("; ".join(reasons))

    def field(self, name: str) -> bytes:
        return bytes.fromhex(self.verified.fields[name])

    def chain(self) -> str:
        """Of the platform's key. dcap-qvl verifies it too, but not the last certificate, which it has itself."""
        return verify_pem(self.form.certificates, self.request)

    def signature(self) -> str:
        require(bool(self.verified.fields), "the report has no fields")
        return "of quote, quoting enclave and collateral, by Intel's root; no certificate is revoked"

    def collateral(self) -> str:
        issued, until = (datetime.fromisoformat(self.verified.tcb_info[name]) for name in ("issueDate", "nextUpdate"))
        return (f"of {issued:%Y-%m-%d}, {(self.request.at - issued).days} days old, valid until {until:%Y-%m-%d}, "
                f"evaluation {self.verified.tcb_info['tcbEvaluationDataNumber']}")

    def status(self) -> str:
        shown = " ".join((self.verified.status, *self.verified.advisories))
        require(self.verified.status in self.request.reference.tdx.tcb_status, f"the platform's firmware is {shown}")
        return shown

    def floor(self) -> str:
        least, found = self.request.reference.tdx.min_evaluation, self.verified.tcb_info["tcbEvaluationDataNumber"]
        if least is None:
            raise NotRequested("no floor given: --reference")
        require(found >= least, f"the collateral's evaluation is {found}, at least {least} is required")
        return f"evaluation {found}, at least {least}"

    def debug(self) -> str:
        attributes = self.field("td_attributes")
        require(not attributes[0] & DEBUG, f"TD attributes {attributes.hex()} allow debugging")
        return f"TD attributes {attributes.hex()}: no debugging"

    def _padded(self, what: str, name: str, expected: bytes | None) -> str:
        if expected is None:
            raise NotRequested(f"{self.field(name).hex()}; nothing to compare with: --reference")
        return compare_padded(what, self.field(name), expected)


def _is_outdated(collateral: str, at: datetime) -> bool:
    """Whether Intel made it for another time: then it contradicts no quote."""
    try:
        info = parse_json(parse_json(collateral)["tcb_info"])
        return not datetime.fromisoformat(info["issueDate"]) <= at <= datetime.fromisoformat(info["nextUpdate"])
    except Exception:
        return False


def verify_pem(text: bytes, request: Request) -> str:
    """A chain that ends with Intel's root, and nothing else.

    Raises:
        NotProven: it does not.
    """
    chain = load_certificates(text)
    require(chain[-1] in request.roots.certificates("intel-sgx"), "the chain does not end with Intel's root")
    return f"{verify_chain(chain)}; {verify_dates(chain, request.at)}"


def verify_quote(data: bytes, collateral: str, request: Request) -> Verified:
    """Verify a quote with one file of collateral.

    Raises:
        Exception: it is not genuine, or the collateral is of another platform or time.
    """
    values = parse_json(collateral)
    for name in CHAINS:
        verify_pem(values[name].encode(), request)
    [root] = request.roots.certificates("intel-sgx")
    report = dcap_qvl.verify_with_root_ca(data, dcap_qvl.QuoteCollateralV3.from_json(collateral),
                                          root.public_bytes(Encoding.DER), int(request.at.timestamp()))
    [(kind, fields)] = parse_json(report.to_json())["report"].items()
    require(kind.startswith("TD"), f"the report is of kind {kind}, not TDX")
    # A report of version 1.5 has that of 1.0 inside.
    return Verified({**fields.pop("base", {}), **fields}, report.status, tuple(report.advisory_ids),
                    parse_json(values["tcb_info"]))
