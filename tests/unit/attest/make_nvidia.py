"""Reports of NVIDIA's devices and their reference manifests made by tests: no public set of both fits together."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from tests.unit.attest.make_certificates import Form, Issued, issue
from vmtool.attest.request import Roots

ROOT, RIM_ROOT = issue("NVIDIA Device Identity CA"), issue("NVIDIA CoRIM signing Root CA")
SIGNER = issue("RIM Signer", RIM_ROOT, Form(authority=False, serial=31))
FIRMWARE, NONCE = b"\x77" * 48, bytes(range(32))
DICE = bytes.fromhex("3003020101") + bytes.fromhex("06096086480165030402020430")
DEVICE = issue("GH100 test", ROOT, Form(authority=False, extensions=[("2.23.133.5.4.1", DICE + FIRMWARE)], serial=32))
ROOTS = Roots({"nvidia-device.pem": ROOT.pem, "nvidia-rim.pem": RIM_ROOT.pem})
GOLDEN = {1: b"\1" * 48, 2: b"\2" * 48, 3: b"\3" * 48}
OPAQUE = {3: b"600.1\0", 6: bytes.fromhex("00a5009601000000"), 20: FIRMWARE, 21: b"\xaa", 36: b"\2\0"}
VBIOS = "96.00.A5.00.01"


@dataclass(frozen=True)
class Device:
    """A device's report; each test changes one thing of it."""

    measurements: tuple[tuple[int, bytes], ...] = tuple(GOLDEN.items())
    opaque: tuple[tuple[int, bytes], ...] = tuple(OPAQUE.items())
    count: int | None = None
    issued: Issued = DEVICE
    nonce: bytes = NONCE
    more: dict[str, Any] = field(default_factory=dict)

    def report(self) -> bytes:
        record = b"".join(bytes((index, 1)) + (51).to_bytes(2, "little") + b"\1" + (48).to_bytes(2, "little") + value
                          for index, value in self.measurements)
        opaque = b"".join(kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value
                          for kind, value in self.opaque)
        count = len(self.measurements) if self.count is None else self.count
        signed = (b"\x11\xe0\x01\xff" + self.nonce + b"\0" + b"\x11\x60\0\0" + bytes((count,))
                  + len(record).to_bytes(3, "little") + record + bytes(32) + len(opaque).to_bytes(2, "little") + opaque)
        r, s = decode_dss_signature(self.issued.key.sign(signed, ec.ECDSA(hashes.SHA384())))
        return signed + r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def item(self) -> dict[str, Any]:
        return {"arch": "HOPPER", "evidence": base64.b64encode(self.report()).decode(),
                "certificate": base64.b64encode(self.issued.pem + ROOT.pem).decode(), **self.more}

    def json(self) -> bytes:
        return json.dumps([self.item()]).encode()


NS = 'xmlns="http://standards.iso.org/iso/19770-2/2015/schema.xsd" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384"'


def resource(index: int, *values: bytes, active: str = "True") -> str:
    hashed = " ".join(f'h:Hash{number}="{value.hex()}"' for number, value in enumerate(values))
    return f'<Resource type="Measurement" index="{index}" active="{active}" alternatives="{len(values)}" {hashed}/>'


def rim(version: str, *resources: str, signer: Issued = SIGNER, method: SignatureMethod | None = None) -> bytes:
    """A signed manifest; its indices are one less than the report's."""
    namespace = NS.replace("19770-2/2015", "19770/-2/2015")
    text = (f'<SoftwareIdentity {namespace} name="GH100"><Meta colloquialVersion="{version}" product="GH100"/><Payload>'
            f'{"".join(resources)}</Payload></SoftwareIdentity>')
    made = XMLSigner(signature_algorithm=method or SignatureMethod.ECDSA_SHA384,
                     digest_algorithm=DigestAlgorithm.SHA384 if not method else DigestAlgorithm.SHA256,
                     c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1).sign(
        etree.fromstring(text), key=signer.key, cert=[signer.certificate])
    data: bytes = etree.tostring(made)
    return data


DRIVER_RIM = rim("600.1", resource(0, GOLDEN[1]), resource(1, b"\x09" * 48, active="False"))
VBIOS_RIM = rim(VBIOS, resource(0, b"\x09" * 48, active="False"), resource(1, b"\x08" * 48, GOLDEN[2]),
                resource(2, GOLDEN[3]))
