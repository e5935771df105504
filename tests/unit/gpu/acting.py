"""Binding and releasing as the commands do, on a host of the tests'."""

from __future__ import annotations

from typing import Any

from tests.fakes.sysfs import FakeKernel
from vmtool.engine import transactions
from vmtool.engine.apply import MakeHost
from vmtool.gpu import plan_bind, plan_release
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.select import DeviceRequest
from vmtool.paths import State
from vmtool.plan import Plan


class Quiet:
    """A monitor that says nothing."""

    def step(self, title: str) -> None:
        pass

    def skipped(self, title: str, why: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def done(self, seconds: float) -> None:
        pass


def on(kernel: FakeKernel) -> MakeHost:
    """Have a plan done on this kernel."""
    return lambda log, note: kernel


def planned(kernel: FakeKernel, state: State, *bdfs: str, **wish: Any) -> Plan:
    """The plan of a bind."""
    return plan_bind.plan_bind(state, read_gpu(kernel, state), DeviceRequest(bdfs=bdfs, **wish))


def do_bind(kernel: FakeKernel, state: State, *bdfs: str, **wish: Any) -> Plan:
    """Bind."""
    return transactions.run_transaction(state, plan_bind.directory(state), "a test",
                                  lambda: planned(kernel, state, *bdfs, **wish), Quiet(), on=on(kernel))


def do_release(kernel: FakeKernel, state: State, *bdfs: str) -> Plan:
    """Give back."""
    def make() -> Plan:
        return plan_release.plan_release(state, read_gpu(kernel, state), bdfs, frozenset())

    return transactions.run_transaction(state, plan_release.directory(state), "a test", make, Quiet(),
                                  on=on(kernel))
