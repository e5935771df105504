"""What is claimed about an SEV-SNP report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from cryptography import x509

from vmtool.attest.appraisal import (
    Appraisal,
    Check,
    NotRequested,
    appraise,
    compare_padded,
)
from vmtool.attest.certificates import verify_dates
from vmtool.attest.cursor import require
from vmtool.attest.request import Request, require_one_of
from vmtool.attest.revocation import verify_unrevoked
from vmtool.attest.snp.chain import (
    SnpChain,
    find_chain,
    signing_key,
    verify_key_binding,
    verify_snp_chain,
    verify_tcb,
)
from vmtool.attest.snp.report import Report, parse_report
from vmtool.attest.snp.signature import select_signer, verify_signature
from vmtool.frozen import dataclass
from vmtool.tee.snp import SNP

# Guest policy (AMD 56860, table 10). Bits above the known ones must be zero.
SMT, MUST_BE_ONE, MIGRATION, DEBUG, SINGLE_SOCKET = 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20
KNOWN_POLICY = (1 << 26) - 1


def appraise_snp(label: str, data: bytes, presented: Sequence[x509.Certificate], request: Request) -> Appraisal:
    """Check a report and the certificates that came with it.

    Raises:
        NotProven: it is no report.
    """
    report = parse_report(data)
    return appraise(label, SNP.title, _Checks(report, (*presented, *request.collateral.certificates), request).all())


@dataclass(frozen=True)
class _Checks:
    report: Report
    presented: Sequence[x509.Certificate]
    request: Request

    def all(self) -> Iterator[Check]:
        yield "format", lambda: f"report version {self.report.version}"
        yield "chain", lambda: verify_snp_chain(self.chain)
        yield "dates", lambda: verify_dates(self.chain.certificates, self.request.at)
        yield "revocation", self.revocation
        yield "generation", self.generation
        yield "key-binding", lambda: verify_key_binding(self.chain, self.report)
        yield "signature", self.signature
        yield "tcb", lambda: verify_tcb(self.chain, self.report)
        yield "tcb-floor", self.tcb_floor
        yield "debug", self.policy
        yield "vmpl", self.vmpl
        yield "freshness", lambda: self.request.fresh("report data", self.report.report_data)
        yield "measurement", self.measurement
        yield "host-data", self.host_data

    @cached_property
    def chain(self) -> SnpChain:
        return find_chain(select_signer(self.presented, self.report), self.request.roots.certificates("amd-"))

    def revocation(self) -> str:
        return verify_unrevoked(self.chain.certificates, self.request.collateral.crls, self.request.at)

    def generation(self) -> str:
        """Since version 3 the report names the processor."""
        product, report = self.chain.product, self.report
        require(not self.request.reference.snp.product or self.request.reference.snp.product == product.name,
                f"the processor is a {product.name}")
        if report.version < 3:
            return f"{product.name} by its certificates; this version of the report does not name the processor"
        seen = f"processor family {report.family:#x} model {report.model:#x}"
        require(any(report.family == family and first <= report.model <= last
                    for family, first, last in product.models), f"{seen} is no {product.name}")
        return f"{product.name}, {seen}"

    def signature(self) -> str:
        require(self.report.algorithm == 1, f"signature algorithm {self.report.algorithm} is unknown")
        verify_signature(signing_key(self.chain), self.report)
        return "ECDSA P-384 with SHA-384"

    def tcb_floor(self) -> str:
        """Of the firmware that reports, and of the one that launched the guest: an update mends no guest of before."""
        floor, product = self.request.reference.snp.min_tcb, self.chain.product
        if not floor:
            raise NotRequested("no floor given: --reference")
        for when, found in (("", self.report.tcb(product)), (" at its launch", self.report.tcb_at_launch(product))):
            for part, least in floor.items():
                require(part in found, f"{product.name} has no {part}")
                require(found[part] >= least, f"{part} is {found[part]}{when}, at least {least} is required")
        return "at least " + " ".join(f"{part}={least}" for part, least in floor.items())

    def policy(self) -> str:
        policy, shown = self.report.policy, f"guest policy {self.report.policy:#x}"
        require(bool(policy & MUST_BE_ONE) and not policy & ~KNOWN_POLICY, f"{shown} is malformed")
        require(not policy & DEBUG, f"{shown} allows debugging: the host reads and writes the guest's memory")
        require(not policy & MIGRATION, f"{shown} allows a migration agent, which gets the guest's memory")
        require(self.request.reference.snp.allow_smt or not policy & SMT, f"{shown} allows SMT")
        return f"{shown}: no debugging, no migration agent"

    def vmpl(self) -> str:
        most = self.request.reference.snp.max_vmpl
        require(self.report.vmpl <= most, f"requested at privilege level {self.report.vmpl}, at most {most} is allowed")
        return f"requested at privilege level {self.report.vmpl}"

    def measurement(self) -> str:
        return require_one_of("measurement", self.report.measurement, self.request.reference.snp.measurement)

    def host_data(self) -> str:
        expected = self.request.reference.snp.host_data
        if expected is None:
            raise NotRequested(f"{self.report.host_data.hex()}; nothing to compare with: --reference")
        return compare_padded("host data", self.report.host_data, expected)
