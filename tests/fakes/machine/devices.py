"""What manages devices and services: modprobe, systemctl, nvidia-smi, NVIDIA's gpu-admin-tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.machine.call import Call, done, failed
from tests.fakes.sysfs import MODULES
from vmtool.gpu.pci import DRIVERS
from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine

UNITS = "/etc/systemd/system"


@dataclass
class Devices:
    """State beside the PCI bus, which is `FakeKernel`'s.

    Args:
        units: whether each service runs.
        persistence: NVIDIA's persistence mode by device.
        modes: of confidential computing by device: (now, after the next reset).
    """

    machine: FakeMachine
    units: dict[str, bool] = field(default_factory=dict)
    persistence: dict[str, bool] = field(default_factory=dict)
    modes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def seen(self) -> dict[str, Any]:
        kernel = {f"{table} {path}": value for table in ("texts", "links", "names")
                  for path, value in self.machine.data[table].items()}
        return {**kernel, "units": self.units, "persistence": self.persistence, "modes": self.modes}


def modprobe(call: Call) -> Output:
    """A module registers its driver."""
    known = MODULES.get(call.words[0])
    if known is None:
        return failed(f"modprobe: FATAL: Module {call.words[0]} not found in directory /lib/modules")
    names = call.machine.data["names"].setdefault(DRIVERS, [])
    if known not in names:
        names.append(known)
        call.machine.changed()
    return done()


def systemctl(call: Call) -> Output:
    """start, stop, restart, enable and disable; with --now both, of a unit whose file is there."""
    verb, *units = [word for word in call.words if not word.startswith("--")]
    devices, tree = call.machine.devices, call.machine.tree
    if not units:
        return done()  # daemon-reload
    [unit] = units
    wants = f"{UNITS}/sysinit.target.wants"
    if verb in ("start", "stop", "restart"):
        if unit not in devices.units and not tree.find(f"{UNITS}/{unit}"):
            return failed(f"Failed to {verb} {unit}: Unit {unit} not found.", 5)
        devices.units[unit] = verb != "stop"
    elif not tree.find(f"{UNITS}/{unit}"):
        return failed(f"Failed to {verb} unit: Unit file {unit} does not exist.")
    elif verb == "enable":
        tree.make_dir(wants, parents=0o755)
        tree.write(f"{wants}/{unit}", b"the link of an enabled unit")
        if "--now" in call.words:
            devices.units[unit] = True
    else:
        if tree.find(f"{wants}/{unit}"):
            tree.unlink(f"{wants}/{unit}")
        if "--now" in call.words:  # also when it was disabled before
            devices.units.pop(unit, None)
    call.machine.changed()
    return done()


def nvidia_smi(call: Call) -> Output:
    """Persistence mode, set or asked for."""
    devices = call.machine.devices
    if "-pm" not in call.words:
        return done("".join(f"0000{bdf.upper()}, {'Enabled' if on else 'Disabled'}\n"
                            for bdf, on in devices.persistence.items()))
    bdf = call.value("-i")
    if call.machine.driver(bdf) != "nvidia":
        return failed("No devices were found", 6)
    devices.persistence[bdf] = call.value("-pm") == "1"
    call.machine.changed()
    return done()


def gpu_admin(call: Call) -> Output:
    """Stages a mode, a device at a time; a reset makes it the mode."""
    modes = call.machine.devices.modes
    for bdf in call.value("--devices").split(","):
        now, staged = modes[bdf]
        if "--reset-with-os" in call.words:
            modes[bdf] = (staged, staged)
        elif mode := call.value("--set-cc-mode"):
            modes[bdf] = (now, mode)
        else:
            on = call.value("--set-ppcie-mode") == "on"
            modes[bdf] = (now, "ppcie" if on else "off" if staged == "ppcie" else staged)
        call.machine.changed()
    return done()
