"""How `vmtool gpu` shows devices: a table, JSON values, all about one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from vmtool.gpu.device_types import kind_of, type_of
from vmtool.gpu.inventory import Inventory
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.proof import known_claim
from vmtool.gpu.saved_state import GpuSavedState
from vmtool.gpu.vfio_driver import is_vfio

HEAD = ("BDF", "TYPE", "DRIVER", "GROUP", "NUMA", "STATE", "NAME")


def state_of(inventory: Inventory, device: PciDevice) -> str:
    """One word on where a device is: hung, busy, in-use (an instance's), bound, host or driverless."""
    details = inventory.details.get(device.bdf)
    if device.bdf in inventory.hung:
        return "hung"
    if details and details.busy:
        return "busy"
    if device.bdf in inventory.claims:
        return "in-use"
    return "bound" if is_vfio(device.driver) else "host" if device.driver else "driverless"


def row(inventory: Inventory, names: PciNames, device: PciDevice, persisted: frozenset[str]) -> dict[str, Any]:
    """A device as a JSON value."""
    details, record = inventory.details.get(device.bdf), inventory.records.get(device.bdf)
    name = names.name(device, locked=inventory.is_locked(device))
    return {
        "bdf": device.bdf, "kind": kind_of(device), "type": type_of(device, name), "name": name,
        "vendor": f"{device.vendor:04x}", "device": f"{device.device:04x}", "subsystem": device.subsystem,
        "class": f"{device.class_code:06x}", "memory": inventory.memory(device), "driver": device.driver or None,
        "iommu_group": device.group, "group_members": [other.bdf for other in inventory.members(device)],
        "state": state_of(inventory, device), "viable": _claim(inventory, device),
        "sriov": "vf" if inventory.is_virtual(device) else "pf" if inventory.is_divided(device) else None,
        "virtual_functions": [other.bdf for other in inventory.virtual_functions(device)],
        "claimed_by": inventory.claims.get(device.bdf),
        "came_from": _came_from(record) if record else None, "persisted": device.bdf in persisted,
        **(asdict(details) if details else {}),
    }


def _claim(inventory: Inventory, device: PciDevice) -> dict[str, str] | None:
    """Whether a machine could start with it; of one that VFIO has."""
    claim = known_claim(inventory, device)
    return asdict(claim) if claim else None


def _came_from(record: GpuSavedState) -> dict[str, Any]:
    """Where a device was before; whom it serves is in its claim."""
    values = asdict(record)
    del values["owner"]
    return values


def cells(item: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    def shown(value: object) -> str:
        return "-" if value is None or value == "" else str(value)

    state = ", ".join((item["state"] + (f" ({item['claimed_by']})" if item["claimed_by"] else ""), *_remarks(item)))
    kind = f"({item['class'][:4]})" if item["kind"] in ("", "bridge") else item["type"]
    return (item["bdf"], kind, shown(item["driver"]), shown(item["iommu_group"]), shown(item.get("numa_node")), state,
            shown(item["name"]))


def _remarks(item: dict[str, Any]) -> list[str]:
    """What a person must know of a device besides its state: its part in SR-IOV, and whether a machine can have it."""
    functions = max(item.get("vfs") or 0, len(item["virtual_functions"]))
    viable = item["viable"]["verdict"].replace("-", " ") if item["viable"] and item["state"] == "bound" else ""
    return [remark for remark in (
        f"PF with {functions} VFs" if item["sriov"] == "pf" else
        f"VF of {item['physfn']}" if item["sriov"] == "vf" else "", viable) if remark]


def details(item: dict[str, Any], members: Iterable[tuple[PciDevice, str]]) -> list[str]:
    """All about one device, for a person."""
    return [*_device(item), *(
        f"            with {other.bdf} (class {other.base_class:04x}, {other.driver or 'no driver'}"
        + (f", {name})" if name else ")") for other, name in members), *_hardware(item), *_use(item)]


def _device(item: dict[str, Any]) -> list[str]:
    """What it is, and whose."""
    memory = f", {item['memory'] >> 30} GiB" if item["memory"] else ""
    return [
        f"{item['bdf']}  {item['type']}{memory}  {item['name']}".rstrip(),
        f"  driver    {item['driver'] or 'none'}" + (f", override {item['override']}" if item.get("override") else ""),
        f"  state     {item['state']}" + (f", serves {item['claimed_by']}" if item["claimed_by"] else "")
        + (", bound at every boot" if item["persisted"] else ""),
        f"  group     {'none' if item['iommu_group'] is None else item['iommu_group']}",
    ]


def _hardware(item: dict[str, Any]) -> list[str]:
    """How it is attached, and its part in SR-IOV."""
    lines = [
        f"  link      {item.get('link') or 'none'}" + (f" of {item['link_max']}" if item.get("link_max") else ""),
        f"  power     {item.get('power_state')}, control {item.get('power_control') or 'none'}, d3cold "
        + {"0": "off", "1": "allowed"}.get(item.get("d3cold_allowed") or "", "not known"),
        f"  reset     {' '.join(item.get('reset_methods', ())) or 'none: a guest leaves it to the next as it is'}",
    ]
    if item.get("total_vfs") or item["sriov"] == "pf":
        shown = ", ".join(item["virtual_functions"])
        lines.append(f"  sr-iov    physical function, {item['vfs']} of {item['total_vfs']} virtual functions"
                     + (f": {shown}" if shown else ""))
    if item["sriov"] == "vf":
        lines.append(f"  sr-iov    virtual function of {item['physfn']}")
    return lines


def _use(item: dict[str, Any]) -> list[str]:
    """Who can have it, who has it, and how it is given back."""
    lines = list[str]()
    if item["viable"]:
        lines.append(f"  machine   {item['viable']['verdict']}: {item['viable']['evidence']}")
    if item.get("boot_vga"):
        lines.append("  display   the machine boots on it")
    if came := item["came_from"]:
        lines.append(f"  came from {came['driver'] or 'no driver'}; vmtool gpu release {item['bdf']} gives it back")
    if item["state"] == "bound":
        nodes = [f"/dev/vfio/{item['iommu_group']}"]
        nodes += [f"/dev/vfio/devices/{item['vfio_node']}"] if item.get("vfio_node") else []
        lines.append(f"  node      {' or '.join(nodes)}")
    for use in item.get("holders", ()):
        lines.append(f"  used by   {use['command']} (pid {use['pid']}{', ' + use['unit'] if use['unit'] else ''}): "
                     f"{', '.join(use['nodes'])}")
    if item.get("persistence_mode"):
        lines.append("  used by   NVIDIA's persistence mode")
    return [*lines, *(f"  hung at   {line}" for line in item.get("hung_at", ()))]
