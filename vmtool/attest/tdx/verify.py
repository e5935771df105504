"""Verifying a TDX quote with dcap-qvl and one file of Intel's collateral."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dcap_qvl
from cryptography.hazmat.primitives.serialization import Encoding

from vmtool.attest.certificates import load_certificates, verify_chain, verify_dates
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import parse_json
from vmtool.attest.request import Request
from vmtool.attest.tdx.collateral import CHAINS, PLATFORM, read_collateral
from vmtool.attest.tdx.quote import check_form
from vmtool.frozen import dataclass


@dataclass(frozen=True)
class Verified:
    """What dcap-qvl has verified: the report's fields, the status of its firmware, the collateral's own values."""

    fields: Mapping[str, Any]
    status: str
    advisories: tuple[str, ...]
    tcb_info: Mapping[str, Any]
    qe_identity: Mapping[str, Any]

    @property
    def age(self) -> tuple[int, str]:
        """By which a newer evaluation comes after an older one: of the older part, since they are signed apart."""
        parts = self.tcb_info, self.qe_identity
        return min(part["tcbEvaluationDataNumber"] for part in parts), min(part["issueDate"] for part in parts)


def is_outdated(collateral: str, at: datetime) -> bool:
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
    values = read_collateral(collateral)
    for name in CHAINS:
        verify_pem(values[name].encode(), request)
    own = values.get(PLATFORM)
    require(own is None or load_certificates(own.encode()) == load_certificates(check_form(data).certificates),
            "the collateral is for another platform's key")
    [root] = request.roots.certificates("intel-sgx")
    report = dcap_qvl.verify_with_root_ca(data, dcap_qvl.QuoteCollateralV3.from_json(collateral),
                                          root.public_bytes(Encoding.DER), int(request.at.timestamp()))
    [(kind, fields)] = parse_json(report.to_json())["report"].items()
    require(kind.startswith("TD"), f"the report is of kind {kind}, not TDX")
    # A report of version 1.5 has that of 1.0 inside.
    return Verified({**fields.pop("base", {}), **fields}, report.status, tuple(report.advisory_ids),
                    parse_json(values["tcb_info"]), parse_json(values["qe_identity"]))
