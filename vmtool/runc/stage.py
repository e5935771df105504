"""Launching with runc: an ordinary container, hardened, on this host's own kernel."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.claims import Claim
from vmtool.containerd.endpoint import awake
from vmtool.containerd.plan_removal import removal_of_container
from vmtool.containerd.remains import has_cgroup, read_container
from vmtool.findings import Finding, wrong_input
from vmtool.image.check import check_user
from vmtool.instance.instance import Instance, unit_of
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.plan import Action, Step
from vmtool.runc.proof import container_claims
from vmtool.stage.container import GuestPart, plan_container, plan_key, signal_task
from vmtool.stage.launch import Launch, Launcher


class RuncLauncher(Launcher):
    """Starts the container and hands over the key."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        yield from check_user(launch.image)
        wanted = launch.body.resources.accelerators
        if wanted.count or wanted.bdf:
            yield wrong_input("launch.accelerators", "runc passes no GPU on: use kata or libvirt",
                              place="spec.resources.accelerators")

    def steps(self, launch: Launch) -> Iterator[Step]:
        yield plan_container(launch, GuestPart())

    def hand_over(self, launch: Launch) -> Iterator[Step]:
        yield plan_key(launch)

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        yield from container_claims(reader, instance)

    def end_politely(self, state: State, instance: Instance) -> tuple[Action, ...]:
        return (*awake(state, instance.known().endpoint), signal_task(instance.known(), "SIGTERM"))

    def end_by_force(self, instance: Instance) -> tuple[Action, ...]:
        return (signal_task(instance.known(), "SIGKILL"),)

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[Step]:
        unit = unit_of(name, slot)
        yield from removal_of_container(state, state.instance(name), unit, read_container(reader, state, unit),
                                        cgroup=has_cgroup(reader, unit))


LAUNCHER = RuncLauncher()
