"""`spec.resources`: memory, processors and GPUs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from vmtool.schema import Size, Strict, defaults

LEAST_MEMORY = 64 << 20


class Accelerators(Strict):
    """GPUs to pass on.

    Args:
        count: how many; e.g. `2`
        type: what `vmtool gpu list` calls them; any when left out; e.g. `nvidia-h100`
        memory: what each must have; e.g. `80Gi`
        bdf: their PCI addresses, instead of a count; e.g. `["0000:17:00.0"]`
    """

    count: Annotated[int, Field(ge=0, le=64)] = 0
    type: str | None = None
    memory: Size | None = None
    bdf: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")], ...] = ()


def enough(value: int) -> int:
    """Memory in which a server could start; less would only fail later, in the container runtime.

    Raises:
        ValueError: it is less.
    """
    if value < LEAST_MEMORY:
        raise ValueError(f"{value} bytes: no server starts in less than {LEAST_MEMORY >> 20}Mi")
    return value


class Resources(Strict):
    """What the workload may use.

    Args:
        memory: of the container, or of the whole virtual machine; e.g. `20Gi`
        cpus: a number of processors; a fraction with runc only; e.g. `4`
        accelerators: GPUs to pass on, with kata and libvirt.
    """

    memory: Annotated[Size, AfterValidator(enough)] = 8 << 30
    cpus: Annotated[float, Field(ge=0.01, le=4096)] = 2.0
    accelerators: Accelerators = defaults(Accelerators)
