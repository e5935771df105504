"""Evidence of NVIDIA's devices as their SDK and Confidential Containers' agent write it: a JSON list."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vmtool.attest.certificates import load_certificates
from vmtool.attest.cursor import require
from vmtool.attest.evidence import Evidence
from vmtool.attest.foreign_json import base64_or_hex, from_base64, from_hex, mapping, text
from vmtool.attest.nvidia.claims import TITLE, Presented, appraise_device
from vmtool.attest.reference import MOST_DEVICES

OPTIONAL = frozenset({"driver_version", "nonce", "uuid", "vbios_version", "version"})
MEMBERS = OPTIONAL | {"arch", "certificate", "evidence"}
LABEL = "nvidia"
# Of the form in which the SDK writes it.
VERSION = "1.0"
SWITCH = "LS10"


def read_devices(value: Any) -> Iterator[Evidence]:
    """A piece of evidence for each device.

    Raises:
        NotProven: it is odd, or one device is listed twice.
    """
    require(isinstance(value, list) and 0 < len(value) <= MOST_DEVICES, f"no list of 1 to {MOST_DEVICES} devices")
    devices = [_device(item) for item in value]
    # A certificate can be written in several ways; the key in it is one device's, and the same each time.
    keys = {device.chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for device in devices}
    require(len(keys) == len(devices), "a device is listed twice")
    for number, device in enumerate(devices):
        label = f"{LABEL}{number}"
        yield Evidence(label, TITLE, partial(appraise_device, label, device), device.architecture != SWITCH,
                       device.chain)


def _device(value: Any) -> Presented:
    fields = mapping(value, "a device", MEMBERS)
    chain = load_certificates(from_base64(fields.get("certificate"), "certificate"))
    require(bool(chain), "a device has no certificates")
    optional = {name: text(fields[name], name) for name in OPTIONAL if fields.get(name) is not None}
    require(optional.get("version", VERSION) == VERSION, f"a device's evidence is of another version than {VERSION}")
    nonce = optional.get("nonce")
    return Presented(base64_or_hex(fields.get("evidence"), "evidence"), chain,
                     from_hex(nonce, "nonce") if nonce is not None else None, text(fields.get("arch"), "arch"),
                     optional.get("driver_version"), optional.get("vbios_version"))
