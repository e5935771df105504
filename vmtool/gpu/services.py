"""The services that are known to hold GPUs: stopping them for the time of a bind, and starting them again."""

from __future__ import annotations

from collections.abc import Iterable

from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.pci import PciDevice
from vmtool.plan import Action, Run, Step

# Each can be stopped and started without loss. Display managers are not among them: a user's work ends with them.
KNOWN = ("nvidia-persistenced.service", "nvidia-dcgm.service", "dcgm.service", "nvidia-dcgm-exporter.service",
         "dcgm-exporter.service", "nvidia-fabricmanager.service", "nvidia-powerd.service", "nvidia-cdi-refresh.service")


def holding_services(facts: GpuFacts, devices: Iterable[PciDevice]) -> tuple[str, ...]:
    """The known units that hold one of the devices now."""
    return tuple(sorted({holder.unit for device in devices for holder in facts.holders_of(device)} & set(KNOWN)))


def plan_stop(units: Iterable[str], persistent: Iterable[str]) -> Step:
    """Stop the services and turn persistence mode off; the undo starts them."""
    stop = [Run(("systemctl", "stop", unit), deadline=60) for unit in units]
    off = [Run(("nvidia-smi", "-i", bdf, "-pm", "0"), deadline=30) for bdf in persistent]
    start: list[Action] = [Run(("nvidia-smi", "-i", bdf, "-pm", "1"), deadline=30,
                               absent_messages=("No devices were found",)) for bdf in persistent]
    start += [Run(("systemctl", "start", unit), deadline=60) for unit in units]
    names = [*units, *(["persistence mode"] if off else [])]
    return Step(f"stop {', '.join(names)}", (*stop, *off), undo=tuple(start))


def plan_start(units: Iterable[str]) -> Step:
    """Start the services again. They are not waited for: with its last GPU gone such a service ends by itself, which
    is no failure of the bind."""
    start = tuple(Run(("systemctl", "--no-block", "start", unit), deadline=30) for unit in units)
    return Step(f"start {', '.join(units)} again", start)
