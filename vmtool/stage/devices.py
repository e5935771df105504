"""The accelerators that are passed on."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.claims import Claim
from vmtool.findings import Finding
from vmtool.instance.instance import Instance, subject_of, unit_of
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.plan import Step
from vmtool.stage.launch import Launch, Stage


class DevicesStage(Stage):
    """Binds them; undone, what was not bound before the launch is released."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        yield from launch.devices.findings if launch.devices else ()

    def steps(self, launch: Launch) -> Iterator[Step]:
        if launch.devices:
            from vmtool.gpu.launch_devices import plan_accelerators  # most launches have no device

            yield from plan_accelerators(launch.state, launch.devices)

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        from vmtool.proof.devices import driver_claims, viable_claims

        yield from driver_claims(reader, instance.known())
        yield from viable_claims(reader, instance.known(), State(instance.paths.directory.parents[1]))

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[Step]:
        from vmtool.gpu.plan_removal import removal_of_devices
        from vmtool.gpu.saved_state import read_claims, read_records

        owner = subject_of(unit_of(name, slot))
        yield from removal_of_devices(state, owner, read_claims(reader, state), read_records(reader, state))
