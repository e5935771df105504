"""What is claimed about the report of a GPU or an NVSwitch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from vmtool.attest.appraisal import Appraisal, Check, NotChecked, NotProven, NotRequested, appraise
from vmtool.attest.certificates import common_name, require_leaf, verify_chain
from vmtool.attest.cursor import require
from vmtool.attest.find_chain import find_path
from vmtool.attest.nvidia.report import FWID, MODE, PROTECTED_PCIE, GpuReport, parse_gpu_report
from vmtool.attest.request import Request
from vmtool.frozen import dataclass

TITLE = "NVIDIA device"
# TCG DICE, TcbInfo of one layer: its value ends with the SHA-384 of the device's firmware (FWID).
DICE = "2.23.133.5.4.1"
SHA384_OCTETS = bytes.fromhex("06096086480165030402020430")
# How the names of the architectures' leaf certificates begin.
ARCHITECTURES = {"HOPPER": ("GH",), "BLACKWELL": ("GB",), "LS10": ("LS_10", "LS10")}


@dataclass(frozen=True)
class Presented:
    """A report with its chain, and what the evidence says beside it, which nobody signed; None for nothing."""

    report: bytes
    chain: Sequence[x509.Certificate]
    nonce: bytes | None = None
    architecture: str | None = None
    driver: str | None = None
    vbios: str | None = None


def appraise_device(label: str, presented: Presented, request: Request) -> Appraisal:
    """Check a report, its chain, and the reference manifests that were given.

    Raises:
        NotProven: it is no report.
    """
    return appraise(label, TITLE, _Checks(presented, parse_gpu_report(presented.report), request).all())


@dataclass(frozen=True)
class _Checks:
    presented: Presented
    report: GpuReport
    request: Request

    def all(self) -> Iterator[Check]:
        yield "format", self.format
        yield "chain", self.verify_chain
        yield from self.request.chain_checks(lambda: self.chain)
        yield "key-binding", self.key_binding
        yield "signature", self.signature
        yield "freshness", lambda: self.request.fresh("nonce", self.report.nonce)
        yield "mode", self.mode
        yield "driver", lambda: self._version("driver", self.report.driver, self.request.reference.nvidia.driver)
        yield "vbios", lambda: self._version("VBIOS", self.report.vbios, self.request.reference.nvidia.vbios)
        yield "measurement", self.measurement

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        certificates = (*self.presented.chain, *(() if self.presented.chain else self.request.collateral.certificates))
        if not certificates:
            raise NotChecked("the device's certificates are not there: --collateral FILE")
        chain = find_path(certificates[0], certificates[1:], self.request.roots.certificates("nvidia-device"))
        require(set(certificates) <= set(chain), "a certificate that was presented is not of the chain")
        return chain

    def format(self) -> str:
        """What is said beside the report must be what is in it."""
        said, found = self.presented, self.report
        for what, beside, inside in (("nonce", said.nonce, found.nonce), ("driver", said.driver, found.driver),
                                     ("VBIOS", said.vbios, found.vbios)):
            require(beside in (None, inside), f"the {what} beside the report is not the report's")
        return f"{len(found.measurements)} measurements"

    def verify_chain(self) -> str:
        require_leaf(self.chain[0])
        name = common_name(self.chain[0])
        architecture = self.presented.architecture
        require(architecture is None or name.startswith(ARCHITECTURES.get(architecture, ("?",))),
                f"the certificate is of {name}, not of {architecture}")
        return verify_chain(self.chain)

    def key_binding(self) -> str:
        """A GPU's key is made for its firmware."""
        firmware = self.report.opaque.get(FWID)
        value = next((item.value for item in self.chain[0].extensions if item.oid.dotted_string == DICE), None)
        require(isinstance(value, x509.UnrecognizedExtension), "the device's certificate names no firmware")
        if firmware is None and not self.report.driver:
            raise NotRequested("a switch's report does not name its firmware's id")
        require(firmware is not None and len(firmware) == 48, "the report does not name its firmware")
        inside = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
        require(inside.endswith(SHA384_OCTETS + (firmware or b"")), "the certificate is of other firmware")
        return f"firmware {(firmware or b'').hex()[:16]}..."

    def signature(self) -> str:
        key = self.chain[0].public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise NotProven("the device's key is not on P-384")
        key.verify(encode_dss_signature(self.report.r, self.report.s), self.report.signed, ec.ECDSA(SHA384()))
        return "ECDSA P-384 with SHA-384"

    def mode(self) -> str:
        expected = self.request.reference.nvidia.protected_pcie
        protected, flag = self.report.opaque.get(PROTECTED_PCIE), self.report.opaque.get(MODE)
        link = "on" if protected == b"\xaa" else (protected or b"").hex() or "not named"
        shown = f"protection of PCIe {link}, mode {(flag or b'').hex() or 'not named'}"
        if expected is None:
            raise NotRequested(f"{shown}; nothing to compare with: --reference")
        require((protected == b"\xaa") == expected, shown)
        return shown

    def _version(self, what: str, found: str, expected: Sequence[str]) -> str:
        if not expected:
            raise NotRequested(f"{found or 'none'}; nothing to compare with: --reference")
        require(found in expected, f"the {what} is {found or 'none'}, expected {' or '.join(expected)}")
        return found

    def measurement(self) -> str:
        """Every active value of the manifests of this very driver and firmware."""
        from vmtool.attest.nvidia.rim import verify_rim  # lxml is slow to import

        if not self.request.collateral.rims:
            raise NotRequested("no reference manifests given: --collateral RIM")
        found = [verify_rim(data, self.request) for data in dict.fromkeys(self.request.collateral.rims)]
        golden: dict[int, tuple[bytes, ...]] = {}
        for version in filter(None, (self.report.driver, self.report.vbios)):
            matching = [rim.golden for rim in found if rim.version.upper() == version.upper()]
            require(len(matching) == 1, f"{len(matching) or 'no'} manifests are for version {version}: given are "
                                        f"{', '.join(rim.version for rim in found)}")
            [values] = matching
            require(not golden.keys() & values.keys(), "two manifests have values of one index")
            golden |= values
        differ = [index for index, values in golden.items() if self.report.measurements.get(index) not in values]
        require(bool(golden) and not differ, f"{len(differ)} of {len(golden)} measurements differ, at {differ[:20]}")
        return f"{len(golden)} measurements are as in the manifests"
