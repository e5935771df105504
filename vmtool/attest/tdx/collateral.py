"""The form of Intel's collateral for a platform: one JSON object, as dcap-qvl and Intel's QVL name its parts."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import parse_json, text

CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
PARTS = frozenset({*CHAINS, "root_ca_crl", "pck_crl", "tcb_info", "tcb_info_signature", "qe_identity",
                   "qe_identity_signature"})
# Of the platform's key; some write it along, and a quote has its own.
PLATFORM = "pck_certificate_chain"
ANSWERS = frozenset({"tcbInfo", "enclaveIdentity"})


def read_collateral(data: str) -> Mapping[str, str]:
    """Its parts, none of which is verified here.

    Raises:
        NotProven, ValueError: a part is missing or odd, or there is one that nobody knows and so nobody checks.
    """
    values = parse_json(data)
    require(isinstance(values, dict), "Intel's collateral is no object")
    # As Intel's service (PCS) and a cache of it (PCCS) answer, with the chain in a header and the lists elsewhere.
    require(not values.keys() & ANSWERS, "this is one answer of Intel's service, and its nine parts are needed in one "
            "file, as dcap-qvl writes it (vmtool's docs/attestation.md, \"Intel's collateral\")")
    unknown = sorted(values.keys() - PARTS - {PLATFORM})
    require(not unknown, f"Intel's collateral has parts that nobody checks: {', '.join(unknown)[:100]}: take them out")
    found = {name: text(value, name) for name, value in values.items() if name != PLATFORM or value is not None}
    missing = sorted(PARTS - found.keys())
    require(not missing, f"Intel's collateral lacks {', '.join(missing)}")
    return found
