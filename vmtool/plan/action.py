"""An action: one change to a machine, as a shell line and as what is done; and its form in a journal.

An action's kind in a journal is "room.Class", so that a journal finds its code by itself: the generic ones are
`vmtool.plan`'s, every other stands in its room's actions.py. A new action is one class there and nothing else.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import importlib
import types
import typing
from pathlib import Path
from typing import Any, ClassVar

if typing.TYPE_CHECKING:
    from vmtool.machine import Host

# Kinds in journals that vmtool 0.1 wrote, and what they are called today.
EARLIER = {
    **{kind: f"plan.{kind}" for kind in ("Run", "Expect", "StartDaemon", "StopDaemon", "MakeDir", "WriteFile",
                                         "CopySecret", "Remove")},
    "NotePid": "plan.RecordPid",
    **{kind: f"net.{kind}" for kind in ("CallPlugin", "RemoveBridge", "RemoveChain")},
    "SweepChains": "net.RemoveSharedChains",
    "WriteSysfs": "gpu.WriteSysfs", "ExpectDriver": "gpu.ExpectDriver", "AwaitFree": "gpu.AwaitVfioUnused",
    "AwaitHealth": "endpoint.AwaitHealth", "AskCanary": "endpoint.AskCanary",
    "ExpectTee": "qemu.ExpectTee", "EndGuest": "qemu.KillQemu",
    "EndTask": "containerd.DeleteTask", "AskGuest": "libvirt.GuestRequest",
}
# Their fields that have another name today.
EARLIER_FIELDS = {"plan.Run": {"gone": "absent_messages"}, "net.CallPlugin": {"again_without": "retry_without_bridge"}}
# Modules that they run with these words, and the workers that do the same today.
EARLIER_PROGRAMS = {"vmtool.host.domains": ("libvirt.end_domain", ("uri", "verb", "name")),
                    "vmtool.host.wayback": ("rootfs.grow.roll_back", ("image",))}


class Action(abc.ABC):
    """One change to a machine, a frozen dataclass.

    Attributes:
        stops_undo: when it fails as a part of an undo, what follows in that undo is not tried.
        needs_undone: as a part of an undo it is done only when everything before it in that undo worked.
    """

    stops_undo: ClassVar[bool] = False
    needs_undone: ClassVar[bool] = False

    @abc.abstractmethod
    def shell(self) -> str:
        """The shell line that it amounts to."""

    @abc.abstractmethod
    def do(self, host: Host) -> None:
        """Do it.

        Raises:
            VmtoolError: it failed.
            OSError: a file could not be written.
        """


def kind_of(action: type[Action]) -> str:
    """ "room.Class", as it is in a journal."""
    return f"{action.__module__.split('.')[1]}.{action.__name__}"


def to_json(value: object) -> Any:
    """A plan, step or action as plain JSON values; an action carries its `kind`."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
                  if field.metadata.get("json", True)}
        return {"kind": kind_of(type(value)), **fields} if isinstance(value, Action) else fields
    return value


def action_from_json(record: dict[str, Any]) -> Action:
    """The inverse of `to_json` for an action, also for one that vmtool 0.1 wrote.

    Raises:
        ValueError: the record is of no known kind or lacks a field; a newer vmtool may have written it.
    """
    try:
        record = _of_today(record)
        kind = EARLIER.get(record["kind"], record["kind"])
        found = _class_of(kind)
        names = EARLIER_FIELDS.get(kind, {})
        hints = _hints(found)
        fields = {names.get(name, name): value for name, value in record.items() if name != "kind"}
        return found(**{name: _from_json(hints[name], value) for name, value in fields.items()})
    except (LookupError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise ValueError(f"not an action of this vmtool: {record!r}") from error


def _of_today(record: dict[str, Any]) -> dict[str, Any]:
    """A program of vmtool 0.1's own is a worker today."""
    words = record.get("argv", ()) if record["kind"] == "Run" else ()
    module = words[words.index("-m") + 1] if "-m" in words else ""
    if module not in EARLIER_PROGRAMS:
        return record
    worker, names = EARLIER_PROGRAMS[module]
    order = dict(zip(names, words[words.index("-m") + 2:], strict=True))
    order.pop("verb", None)
    return {"kind": "plan.RunWorker", "name": worker, "order": order, "deadline": record["deadline"]}


@functools.cache
def _hints(of: type) -> dict[str, Any]:
    """The types of a dataclass's fields; a journal has many records of few kinds."""
    return typing.get_type_hints(of)


def _class_of(kind: str) -> type[Action]:
    """The class; a kind names a room and a class, never a path, so nothing but an action is ever imported or called.

    Raises:
        KeyError: there is none.
    """
    room, _, name = kind.partition(".")
    if not (room.isidentifier() and name.isidentifier()):
        raise KeyError(kind)
    found = getattr(importlib.import_module("vmtool.plan" if room == "plan" else f"vmtool.{room}.actions"), name)
    if not (isinstance(found, type) and issubclass(found, Action) and kind_of(found) == kind):
        raise KeyError(kind)
    return found


def _from_json(hint: Any, value: Any) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if hint is Path:
        return Path(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        return hint(**{name: _from_json(hints[name], each) for name, each in value.items()})
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return value
