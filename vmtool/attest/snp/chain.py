"""The certificates of SEV-SNP: ARK <- ASK <- VCEK, or ARK <- ASVK <- VLEK, per generation of processors."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from vmtool.attest.appraisal import NotChecked
from vmtool.attest.certificates import common_name, issuer_name, require_leaf, verify_chain
from vmtool.attest.cursor import require
from vmtool.attest.snp.report import PRODUCTS, Product, Report
from vmtool.frozen import dataclass

# The name of a signing key's certificate, by the kind that the report names; and how its issuer's name begins.
KINDS = {0: ("SEV-VCEK", "SEV-"), 1: ("SEV-VLEK", "SEV-VLEK-")}
NAMES = tuple(name for name, _ in KINDS.values())
AMD = "1.3.6.1.4.1.3704.1"
PRODUCT_NAME, CHIP_ID = f"{AMD}.2", f"{AMD}.4"
# The last number of the extension with a security version, by the part of the firmware.
VERSIONS = {"bootloader": 1, "tee": 2, "snp": 3, "microcode": 8, "fmc": 9}


@dataclass(frozen=True)
class SnpChain:
    """A signing key's certificate and those above it, and the generation of processors that they are for.

    Args:
        unused: further certificates that were presented, each with the root that it names.
    """

    vek: x509.Certificate
    ask: x509.Certificate
    ark: x509.Certificate
    product: Product
    unused: tuple[tuple[x509.Certificate, x509.Certificate], ...] = ()

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The leaf first."""
        return self.vek, self.ask, self.ark


def find_chain(presented: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> SnpChain:
    """Put a chain together. The root is always a trusted one; the intermediate is a presented one if any was presented.

    Raises:
        NotChecked: there is no certificate of a signing key, which only AMD or the host has.
        NotProven: there are several, or nothing leads to a root.
    """
    veks = {item for item in presented if common_name(item) in NAMES}
    if not veks:
        raise NotChecked("the certificate of the signing key (VCEK or VLEK) is not there: --collateral FILE")
    require(len(veks) == 1, "several certificates of signing keys were presented")
    vek = veks.pop()
    above = [item for item in presented if item != vek and _is_amds(item)]
    ask = _named(vek.issuer, above or trusted)
    roots = [item for item in trusted if item.subject == item.issuer]
    ark = _named(ask.issuer, roots)
    require(all(item == ark for item in above if item.subject == ark.subject), "the presented ARK is not AMD's")
    generation = common_name(ark).removeprefix("ARK-")
    product = next((item for item in PRODUCTS if item.name == generation), None)
    require(product is not None, f"{common_name(ark)} is of an unknown generation")
    unused = tuple((item, _named(item.issuer, roots)) for item in above if item not in (ask, ark))
    return SnpChain(vek, ask, ark, product or PRODUCTS[0], unused)


def _is_amds(certificate: x509.Certificate) -> bool:
    """By either of its names: one whose own name was altered is verified as well, and refused."""
    return any(name.startswith(("SEV-", "ARK-")) for name in (common_name(certificate), issuer_name(certificate)))


def _named(name: x509.Name, among: Sequence[x509.Certificate]) -> x509.Certificate:
    found = {item for item in among if item.subject == name}
    require(len(found) == 1, f"{len(found)} certificates are named {name.rfc4514_string().partition(',')[0]}, not one")
    return found.pop()


def verify_snp_chain(chain: SnpChain) -> str:
    """The chain leads to the root, by the algorithm and the sizes of keys that AMD uses.

    Raises:
        NotProven: it does not.
    """
    for certificate in chain.certificates:
        name, scheme = common_name(certificate), certificate.signature_algorithm_parameters
        hashed = certificate.signature_hash_algorithm
        require(isinstance(scheme, padding.PSS) and hashed is not None and hashed.name == "sha384",
                f"{name} is not signed by RSASSA-PSS with SHA-384")
    for certificate in chain.certificates[1:]:
        key = certificate.public_key()
        require(isinstance(key, rsa.RSAPublicKey) and key.key_size == 4096, f"{common_name(certificate)}: no RSA-4096")
    require_leaf(chain.vek)
    for pair in chain.unused:
        verify_chain(pair)
    return verify_chain(chain.certificates)


def signing_key(chain: SnpChain) -> ec.EllipticCurvePublicKey:
    """The key that signs reports.

    Raises:
        NotProven: it is none on P-384.
    """
    key = chain.vek.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        require(False, "the signing key is not on P-384")
        raise TypeError
    return key


def verify_key_binding(chain: SnpChain, report: Report) -> str:
    """The certificate is of the kind, the generation and the chip that the report is of.

    Raises:
        NotProven: it is of another.
    """
    kind, above = KINDS.get(report.signing_key, ("", ""))
    require(bool(kind), f"the report names signing key {report.signing_key}, neither VCEK nor VLEK")
    require(common_name(chain.vek) == kind, f"the report is signed by a {kind}, the certificate is {chain.vek.subject}")
    expected = f"{above}{chain.product.name}"
    require(common_name(chain.ask) == expected, f"{kind} must be issued by {expected}, not {common_name(chain.ask)}")
    named = extension(chain.vek, PRODUCT_NAME)[2:].decode("ascii")
    require(named.partition("-")[0] == chain.product.name, f"the certificate is for {named}")
    if kind == NAMES[1]:
        require(not has_extension(chain.vek, CHIP_ID), "a VLEK has no chip id")
        return f"{kind} of {chain.product.name}"
    require(not report.masked_chip, "the report keeps its chip's id back, so that no certificate can be compared")
    size = chain.product.chip_id
    require(extension(chain.vek, CHIP_ID) == report.chip_id[:size] and not any(report.chip_id[size:]),
            "the certificate is of another chip")
    return f"{kind} of the {chain.product.name} chip {report.chip_id[:8].hex()}..."


def verify_tcb(chain: SnpChain, report: Report) -> str:
    """The certificate is for the firmware that the report names: its key is derived from those versions.

    Raises:
        NotProven: it is for another.
    """
    reported = report.tcb(chain.product)
    for part, version in reported.items():
        certified = _integer(extension(chain.vek, f"{AMD}.3.{VERSIONS[part]}"))
        require(certified == version, f"{part} is {version} in the report and {certified} in the certificate")
    return " ".join(f"{part}={version}" for part, version in reported.items())


def has_extension(certificate: x509.Certificate, oid: str) -> bool:
    """Whether the certificate has it."""
    return any(item.oid.dotted_string == oid for item in certificate.extensions)


def extension(certificate: x509.Certificate, oid: str) -> bytes:
    """The value of an extension that cryptography does not know.

    Raises:
        NotProven: the certificate lacks it.
    """
    for item in certificate.extensions:
        if item.oid.dotted_string == oid and isinstance(item.value, x509.UnrecognizedExtension):
            return item.value.value
    require(False, f"the certificate lacks the extension {oid}")
    raise KeyError(oid)


def _integer(der: bytes) -> int:
    """A DER INTEGER of one or two bytes."""
    require(len(der) in (3, 4) and der[:2] == bytes((2, len(der) - 2)), f"{der.hex()} is no security version")
    return int.from_bytes(der[2:], "big")
