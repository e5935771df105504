"""The domain's XML: rendered from its template, read back, and checked against what was asked for."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from vmtool.errors import Refused, VmtoolError
from vmtool.libvirt.domain import Domain, foreign
from vmtool.rendering import render_template
from vmtool.tee.table import tee_of

TEMPLATE = "libvirt/domain.xml"
# MiB of address space for a GPU's memory, which OVMF sets aside: the largest has 192 GiB, rounded up to a power of 2.
WINDOW = 262144


def render_domain(domain: Domain) -> str:
    """The description; the same domain gives the same bytes.

    Raises:
        Refused: a value holds a character that XML cannot.
        VmtoolError: what the template gives is not what was asked for; a fault of the template.
    """
    values = dataclasses.asdict(domain) | {"uuid": domain.uuid, "cmdline": "", "window": 0}
    if domain.kernel:
        values["cmdline"] = domain.kernel.cmdline
    if domain.firmware and domain.hostdevs:
        values["window"] = len(domain.hostdevs) * WINDOW
    for name, value in _texts(values):
        if character := foreign(value):
            raise Refused(f"{name}: {value[:60]!r} holds {character!r}, which a domain's description cannot")
    text = render_template(TEMPLATE, **values | {"tee": tee_of(domain.tee)})
    _compare(domain, text)
    return text


def _texts(value: object, name: str = "domain") -> Iterator[tuple[str, str]]:
    """Every text in the values, with the name of its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, str(key))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _texts(item, name)
    elif value is not None:
        yield name, str(value)


def read_back(text: str) -> dict[str, object]:
    """What the description says, in the words of `expected`."""
    root = ElementTree.fromstring(text)  # noqa: S314  (vmtool's own rendering)
    find = root.findtext
    return {
        "name": find("name"), "title": find("title"), "memory": find("memory"), "vcpus": find("vcpu"),
        "emulator": find("devices/emulator"), "kernel": find("os/kernel") or "", "initrd": find("os/initrd") or "",
        "cmdline": find("os/cmdline") or "", "loader": find("os/loader") or "",
        "disks": [(disk.find("source").get("file"), disk.findtext("serial"))  # type: ignore[union-attr]
                  for disk in root.findall("devices/disk")],
        "bridge": [source.get("bridge") for source in root.findall("devices/interface/source")],
        "console": [source.get("path") for source in root.findall("devices/serial/source")],
        "ports": [(port.find("source").get("path"), port.find("target").get("name"))  # type: ignore[union-attr]
                  for port in root.findall("devices/channel")],
        "hostdevs": [_address(each.attrib) for each in root.findall("devices/hostdev/source/address")],
        "iommufd": [each.get("iommufd") == "yes" for each in root.findall("devices/hostdev/driver")],
        "launchSecurity": [each.get("type") for each in root.findall("launchSecurity")],
        "tpm": [each.get("model") for each in root.findall("devices/tpm")],
    }


def expected(domain: Domain) -> dict[str, object]:
    """What `read_back` must give."""
    kernel, tee = domain.kernel, tee_of(domain.tee)
    return {
        "name": domain.name, "title": domain.title, "memory": str(domain.memory), "vcpus": str(domain.vcpus),
        "emulator": domain.emulator, "kernel": str(kernel.path) if kernel else "",
        "initrd": str(kernel.initrd or "") if kernel else "", "cmdline": kernel.cmdline if kernel else "",
        "loader": str(domain.firmware or ""),
        "disks": [(str(disk.path), disk.serial) for disk in domain.disks],
        "bridge": [domain.nic.bridge] if domain.nic else [], "console": [str(domain.console)],
        "ports": [(str(port.socket or port.file), port.name) for port in domain.ports],
        "hostdevs": list(domain.hostdevs), "iommufd": [domain.iommufd] * len(domain.hostdevs),
        "launchSecurity": [tee.libvirt.security] if tee else [], "tpm": [domain.tpm] if domain.tpm else [],
    }


def _compare(domain: Domain, text: str) -> None:
    found, wanted = read_back(text), expected(domain)
    wrong = [f"{name}: {found[name]!r}, asked for is {wanted[name]!r}" for name in wanted
             if found[name] != wanted[name]]
    if wrong:
        raise VmtoolError(f"templates/{TEMPLATE}.j2 gives another domain than was asked for", details=wrong)


def _address(parts: dict[str, str]) -> str:
    numbers = {name: int(parts[name], 16) for name in ("domain", "bus", "slot", "function")}
    return "{domain:04x}:{bus:02x}:{slot:02x}.{function:x}".format(**numbers)
