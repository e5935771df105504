"""Verified, not hoped: what the kernel, QEMU and the guest say of an instance that runs, claim by claim."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.claims import Claim
from vmtool.instance.instance import Instance
from vmtool.launch.stages import STAGES, launcher_of
from vmtool.machine import Reader


def read_claims(reader: Reader, instance: Instance, *, whole: bool = False) -> tuple[Claim, ...]:
    """Inspect the running instance. A claim that could not be checked is `not-checked`, never proven.

    Args:
        whole: inspect also what takes its time: what the guest says, and the bytes of its image.
    """
    return tuple(_claims(reader, instance, whole=whole))


def read_whole_claims(reader: Reader, instance: Instance) -> tuple[Claim, ...]:
    """The claims that are kept as evidence."""
    return read_claims(reader, instance, whole=True)


def read_claims_before_key(reader: Reader, instance: Instance) -> tuple[Claim, ...]:
    """Inspect what was started, before its workload gets the keys."""
    launcher = launcher_of(instance.known().handler)
    return (_running(instance), *(launcher.before_key(reader, instance) if instance.pid else ()))


def _running(instance: Instance) -> Claim:
    if instance.pid is None:
        return Claim("process.running", "failed", f"the container's process is gone ({instance.state})")
    return Claim("process.running", "proven", f"pid {instance.pid}")


def _claims(reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
    launcher = launcher_of(instance.known().handler)
    yield _running(instance)
    if instance.pid is None:
        yield from launcher.left(reader, instance)
    else:
        yield from launcher.claims(reader, instance, whole=whole)
    for stage in STAGES:
        if instance.pid is not None or stage.outlives_the_process:
            yield from stage.claims(reader, instance, whole=whole)
