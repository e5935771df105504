"""NVIDIA's reference integrity manifests: a SWID tag (ISO 19770-2) with an XML signature."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from vmtool.attest.appraisal import Appraisal, NotChecked, NotRequested, appraise
from vmtool.attest.certificates import load_certificates, require_leaf, verify_chain, verify_dates
from vmtool.attest.cursor import require
from vmtool.attest.find_chain import find_path
from vmtool.attest.foreign_json import from_base64
from vmtool.attest.request import Request
from vmtool.attest.revocation import verify_unrevoked
from vmtool.frozen import dataclass

NAME, TITLE = "rim", "NVIDIA reference manifest"
SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
SHA384 = "{http://www.w3.org/2001/04/xmlenc#sha384}"
CERTIFICATES = ".//{http://www.w3.org/2000/09/xmldsig#}X509Certificate"
MOST_BYTES, MOST_ALTERNATIVES = 1 << 20, 64


@dataclass(frozen=True)
class Rim:
    """Verified reference values.

    Args:
        version: of the driver or the firmware that they are of.
        golden: allowed values by the report's index, which is the manifest's plus one.
        chain: of its signer.
    """

    product: str
    version: str
    golden: Mapping[int, tuple[bytes, ...]]
    chain: tuple[x509.Certificate, ...]


def appraise_rim(data: bytes, request: Request) -> Appraisal:
    """Check a manifest by itself."""
    rim = verify_rim(data, request)
    return appraise(NAME, TITLE, [
        ("signature", lambda: f"of {rim.product} {rim.version}, {len(rim.golden)} active measurements"),
        ("chain", lambda: verify_chain(rim.chain)),
        *request.chain_checks(lambda: rim.chain)])


def verify_rim(data: bytes, request: Request) -> Rim:
    """A manifest that NVIDIA signed, valid at the request's time.

    Raises:
        Exception: it is none, was changed, or its signer is not NVIDIA or not valid.
    """
    document = _parse(data)
    presented = [certificate for element in document.iterfind(CERTIFICATES)
                 for certificate in load_certificates(_der(element.text or ""))]
    require(bool(presented), "the manifest has no certificate")
    chain = find_path(presented[0], presented[1:], request.roots.certificates("nvidia-rim"))
    require(set(presented) <= set(chain), "a certificate of the manifest is not of its signer's chain")
    require_leaf(chain[0])
    verify_chain(chain)
    verify_dates(chain, request.at)
    with contextlib.suppress(NotChecked, NotRequested):
        verify_unrevoked(chain, request.collateral.crls, request.at)
    expected = SignatureConfiguration(
        require_x509=True, expect_references=1, signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}), verification_time=request.at)
    # Only what this returns was signed; with certificates of an authority of its own signxml refuses NVIDIA's root.
    result = XMLVerifier().verify(document, x509_cert=presented[0], expect_config=expected)
    require(not isinstance(result, list), "the manifest has several signatures")
    return _read(getattr(result, "signed_xml", None), chain)


def _der(text: str) -> bytes:
    """Only line breaks are between the characters."""
    return from_base64("".join(text.split()), "a certificate")


def _parse(data: bytes) -> Any:
    require(len(data) <= MOST_BYTES, "the manifest is too large")
    text = data.decode()
    # Comments are not signed; entities and instructions are only a way to be attacked.
    require("<!" not in text and "<?" not in text.removeprefix("<?xml"), "the manifest has a DOCTYPE or comments")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    return etree.fromstring(data, parser)


def _read(signed: Any, chain: tuple[x509.Certificate, ...]) -> Rim:
    require(signed is not None and signed.tag == f"{SWID}SoftwareIdentity", "no SWID tag was signed")
    metas, payloads = signed.findall(f"{SWID}Meta"), signed.findall(f"{SWID}Payload")
    require(len(metas) == len(payloads) == 1, "the manifest has several parts of a kind")
    golden: dict[int, tuple[bytes, ...]] = {}
    seen: set[int] = set()
    for resource in payloads[0].findall(f"{SWID}Resource"):
        index = int(resource.get("index", ""))
        require(index not in seen and 0 <= index < 255, f"index {index} of the manifest occurs twice or is odd")
        seen.add(index)
        require(resource.get("type") == "Measurement" and resource.get("active") in ("True", "False"),
                f"index {index} of the manifest is odd")
        if resource.get("active") == "True":
            golden[index + 1] = _values(resource)
    require(bool(golden), "the manifest has no active measurement")
    return Rim(metas[0].get("product", ""), metas[0].get("colloquialVersion", ""), golden, chain)


def _values(resource: Any) -> tuple[bytes, ...]:
    count = int(resource.get("alternatives", ""))
    require(0 < count <= MOST_ALTERNATIVES, "a measurement of the manifest has no values, or too many")
    values = tuple(bytes.fromhex(resource.get(f"{SHA384}Hash{number}", "")) for number in range(count))
    require(all(len(value) == 48 for value in values), "a value of the manifest is no SHA-384")
    return values
