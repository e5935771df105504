"""What of a subject is on the machine, whoever remembers it: the look that goes with every journal that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vmtool.containerd.plan_removal import release_of_containerd, removal_of_container
from vmtool.containerd.remains import has_cgroup, is_kept_for, read_container
from vmtool.gpu.plan_removal import removal_of_devices
from vmtool.gpu.saved_state import read_claims, read_records
from vmtool.image.plan_removal import removal_of_image
from vmtool.image.remains import read_image_remains
from vmtool.launch.stages import AFTER, BEFORE, LAUNCHERS, launcher_of
from vmtool.machine import Reader
from vmtool.net.plan_removal import removal_of_network
from vmtool.net.remains import read_network_remains
from vmtool.paths import SLOTS, State
from vmtool.plan import Step

Look = Callable[[Reader, State, str], Iterator[Step]]


def read_remains(reader: Reader, state: State, directory: Path) -> list[Step]:
    """Steps whose undo removes what is found, in the order in which it was made."""
    look = ROOMS.get(directory.parent.name)
    return list(look(reader, state, directory.name)) if look else []


def _instance(reader: Reader, state: State, name: str) -> Iterator[Step]:
    # The container goes before the guest that it may have left, and both before their devices.
    launchers = [launcher_of(handler) for handler in reversed(LAUNCHERS)]
    for stage in (*BEFORE, *launchers, *AFTER):
        for slot in SLOTS:
            yield from stage.remains(reader, state, name, slot)


def _network(reader: Reader, state: State, name: str) -> Iterator[Step]:
    yield from removal_of_network(state, read_network_remains(reader, state, "", name, name))


def _work(reader: Reader, state: State, name: str) -> Iterator[Step]:
    if is_kept_for(reader, state, f"work-{name}"):
        yield release_of_containerd(state, f"work-{name}")
    container = f"vmtool-{name}"
    yield from removal_of_container(state, state.root / "work" / name, container,
                                    read_container(reader, state, container), cgroup=has_cgroup(reader, container))


def _gpu(reader: Reader, state: State, name: str) -> Iterator[Step]:
    yield from removal_of_devices(state, "", read_claims(reader, state), read_records(reader, state))


def _image(reader: Reader, state: State, name: str) -> Iterator[Step]:
    yield from removal_of_image(state, name, read_image_remains(reader, state, name))


# Of the other rooms nothing is on the machine that has a name: what their plans say is all there is.
ROOMS: Mapping[str, Look] = {"instances": _instance, "networks": _network, "images": _image, "work": _work,
                             "gpu": _gpu}
