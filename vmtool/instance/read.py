"""Reading instances: what their directories hold, and whether their processes live."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from vmtool.cli.apply_plan import JournalState, read_journal
from vmtool.errors import Damaged, Refused, VmtoolError
from vmtool.foreign import parse_json, read_regular
from vmtool.host import files
from vmtool.host.local import LocalMachine
from vmtool.instance.instance import Instance, InstanceRecord, Paths, unit_of
from vmtool.instance.process import find_process
from vmtool.machine import Host
from vmtool.paths import NAME, SLOTS, State
from vmtool.records import CHECKSUM, record_of

EARLIER_DETAILS = ("program", "kernel", "configuration", "uri", "channel")
LARGEST = 1 << 20


def read_instances(state: State) -> list[Instance]:
    """Every instance, by name; one whose files cannot be read is "damaged", and keeps nobody from the others."""
    try:
        names = files.names(str(state.instances))
    except FileNotFoundError:
        return []
    return [read_instance(state, name) for name in names if NAME.fullmatch(name)]


def read_instance(state: State, name: str) -> Instance:
    """One instance.

    Raises:
        VmtoolError: there is none of that name.
    """
    directory = state.instance(name)
    if not os.path.lexists(directory):
        raise VmtoolError(f"there is no instance {name!r}", hint="vmtool ps")
    try:
        replayed, busy = read_journal(state, directory)
    except Damaged as error:
        slots = [Paths(directory, slot) for slot in SLOTS]
        paths = next((each for each in slots if _pid(state, each)), slots[0])
        return Instance(name, paths, _record_or_none(paths), "damaged", _pid(state, paths), damage=error)
    paths = Paths(directory, replayed.slot)
    pid = _pid(state, paths, starting=replayed.state == "unfinished")
    try:
        record = _record(paths, needed=replayed.state == "applied")
    except Damaged as error:
        return Instance(name, paths, None, "damaged", pid, replayed, error, busy)
    return Instance(name, paths, record, _state(replayed, busy, pid), pid, replayed, busy=busy)


def _pid(state: State, paths: Paths, *, starting: bool = False) -> int | None:
    return find_process(LocalMachine(), state, unit_of(paths.directory.name, paths.slot), paths.pidfile,
                        starting=starting)


def refreshed(state: State, instance: Instance) -> Instance:
    """The same, whose journal is at rest and has not changed, nor has its record, with its process as it is now."""
    pid = _pid(state, instance.paths)
    return replace(instance, pid=pid, state=_state(instance.journal, instance.busy, pid))


def read_beside(state: State, instance: Instance) -> Instance:
    """The new one that an upgrade launches beside an instance.

    Raises:
        VmtoolError: there is none.
    """
    paths = Paths(instance.paths.directory, next(slot for slot in SLOTS if slot != instance.paths.slot))
    record = _record(paths, needed=False)
    if record is None:
        raise VmtoolError(f"{instance.name} has no new one beside it", hint=f"vmtool upgrade {instance.name}")
    return Instance(instance.name, paths, record, "starting", _pid(state, paths, starting=True))


def read_starting(host: Host, paths: Paths) -> Instance:
    """The instance that is being started, as its launch wrote it down so far."""
    record = record_of(InstanceRecord, host.read(paths.record).decode())
    return Instance(paths.directory.name, paths, record, "starting", host.living(paths.pidfile))


def _record(paths: Paths, *, needed: bool) -> InstanceRecord | None:
    """The record; one that a launch came to its end with is needed."""
    if not os.path.lexists(paths.record):
        if needed:
            raise _damaged(paths, f"{paths.record}: it is missing")
        return None
    try:
        record = _record_of(paths, read_regular(paths.record, LARGEST))
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(paths, f"{paths.record}: it is damaged, or another version of vmtool wrote it: "
                       f"{str(error)[:200]}") from error
    except (OSError, Refused) as error:
        raise _damaged(paths, f"{paths.record}: it cannot be read: {error}") from error
    if record.name != paths.directory.name:
        raise _damaged(paths, f"{paths.record}: it is the record of {record.name[:63]!r}")
    return record


def _record_or_none(paths: Paths) -> InstanceRecord | None:
    try:
        return _record(paths, needed=False)
    except Damaged:
        return None


def _damaged(paths: Paths, what: str) -> Damaged:
    return Damaged(what, hint=f"vmtool recover --adopt {paths.directory.name}")


def _record_of(paths: Paths, text: bytes) -> InstanceRecord:
    """The record. vmtool 0.1 had every launcher's details side by side, and knew by the handler what was rendered."""
    values = parse_json(text)
    if CHECKSUM in values:
        return record_of(InstanceRecord, text)
    earlier = {name: values.pop(name) for name in EARLIER_DETAILS if name in values}
    if earlier and values["handler"] != "runc":
        libvirt = values["handler"] == "libvirt"
        rendered = Path(earlier["kernel"]).with_name("domain.xml") if libvirt else paths.kata
        values["details"] = {"rendered": str(rendered), **{name: word for name, word in earlier.items() if word}}
    return record_of(InstanceRecord, json.dumps(values))


def _state(replayed: JournalState, busy: bool, pid: int | None) -> str:
    if replayed.state == "applied":
        return "running" if pid else "stopped"
    if busy:
        return "upgrading" if replayed.previous else "starting"
    if replayed.entries and replayed.state == "failed" and not replayed.previous:
        return "kept"
    return "interrupted" if replayed.entries or not replayed.error else "failed"
