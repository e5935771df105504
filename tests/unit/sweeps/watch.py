"""The unit that runs watch: installed, and installed again in the place of an older one."""

from __future__ import annotations

from tests.fakes.machine import FakeMachine
from tests.unit.sweeps.engine import Case
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.watch.plan import UNITS, plan_install


def host(state: State) -> FakeMachine:
    return FakeMachine(files={f"{UNITS}/other.service": "somebody else's"})


def install(state: State, machine: FakeMachine) -> Plan:
    return plan_install(state, installed="")


CASES = {"watch --install": Case(host, install, {r"files /etc/systemd/system/sysinit.target.wants": "a directory"})}
