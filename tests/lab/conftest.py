"""Lab machines as fixtures: one runs at a time, put back to its snapshot before each test that asks for it.

    @pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
    def test_bind(vm: LabVm) -> None:
        assert vm.vmtool("gpu", "bind", "0000:00:05.0", "--yes").status == 0
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator

import pytest

from tests.lab.cache import LabError
from tests.lab.lab import Lab, prepare
from tests.lab.topology import SOLE, Topology
from tests.lab.vm import LabVm
from vmtool.host.processes import which

NEEDED = ("mmdebstrap", "mke2fs", "unshare")


class Garage:
    """The one machine that runs now. Starting from the cache takes seconds, so none is kept beside it."""

    def __init__(self) -> None:
        self._vm: LabVm | None = None

    def get(self, topology: Topology) -> LabVm:
        """The machine, as after its first boot."""
        if self._vm and self._vm.topology == topology:
            try:
                self._vm.restore()
                return self._vm
            except LabError:                           # broken by the last test: start another
                pass
        self.close()
        self._vm = LabVm(_prepared(topology.arch), topology).__enter__()
        return self._vm

    def close(self) -> None:
        """End the machine."""
        if self._vm:
            vm, self._vm = self._vm, None
            vm.__exit__(None, None, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on one machine run one after the other: a restore takes a second, a start several."""
    places = [number for number, item in enumerate(items) if _machine(item)]
    ordered = sorted((items[number] for number in places), key=_machine)
    for number, item in zip(places, ordered, strict=True):
        items[number] = item


def _machine(item: pytest.Item) -> str:
    topology = getattr(getattr(item, "callspec", None), "params", {}).get("vm")
    return topology.name if isinstance(topology, Topology) else ""


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab's parts for x86; skips, and says why, where they cannot be made."""
    skip_unless_possible()
    return _prepared("x86_64")


@pytest.fixture(scope="session")
def garage(lab: Lab) -> Iterator[Garage]:
    """What `vm` takes its machines from."""
    garage = Garage()
    yield garage
    garage.close()


@pytest.fixture
def vm(request: pytest.FixtureRequest, garage: Garage) -> LabVm:
    """The machine of the topology that the test is parametrized with, fresh from its snapshot."""
    return garage.get(getattr(request, "param", SOLE))


def skip_unless_possible() -> None:
    """Skip on a machine where no part could be made, or no guest started."""
    if platform.machine() != "x86_64":
        pytest.skip(f"the lab's QEMU is taken for x86_64, and this is {platform.machine()}")
    if os.geteuid():
        pytest.skip("the lab needs root: mmdebstrap and depmod work in a chroot")
    if missing := [name for name in NEEDED if not which(name)]:
        pytest.skip(f"the lab needs {', '.join(missing)}: scripts/setup --test")


def _prepared(arch: str) -> Lab:
    try:
        return prepare(_say, arch=arch)
    except LabError as error:
        pytest.skip(f"the lab's parts for {arch} cannot be made: {str(error).splitlines()[0]}")


def _say(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)
