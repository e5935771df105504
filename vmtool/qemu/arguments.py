"""QEMU's arguments, taken apart as far as a proof needs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vmtool.foreign import parse_json
from vmtool.frozen import dataclass

Properties = dict[str, str]
OVERRIDING = ("set", "global", "readconfig")


@dataclass(frozen=True)
class Arguments:
    """A QEMU's arguments.

    Args:
        machine: properties of all -machine options together; "type" is the machine's.
        objects, devices: properties of each -object and -device; "type" is its type.
        accelerators: such as ("kvm",), in the order in which QEMU tries them.
        plain: every other option with its value; of a repeated one the last.
        monitors: properties of each -mon option.
        overrides: what changes what other options say, wherever it stands: -set, -global and -readconfig, with values.
    """

    machine: Properties
    objects: tuple[Properties, ...]
    devices: tuple[Properties, ...]
    accelerators: tuple[str, ...]
    plain: Properties
    monitors: tuple[Properties, ...] = ()
    overrides: tuple[str, ...] = ()

    def object_of(self, kind: str) -> Properties | None:
        """The first object of a type."""
        return next((item for item in self.objects if item.get("type") == kind), None)


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Take arguments apart; what is not understood is left in `plain`."""
    machine: Properties = {}
    objects, devices, monitors = [], [], []
    accelerators: list[str] = []
    overrides: list[str] = []
    plain: Properties = {}
    for option, value in pairs(argv):
        if option in ("machine", "M"):
            machine |= properties(value)
        elif option == "object":
            objects.append(properties(value))
        elif option == "device":
            devices.append(properties(value))
        elif option == "mon":
            monitors.append(properties(value))
        elif option in OVERRIDING:
            overrides.append(f"{option} {value}")
        elif option == "accel":
            accelerators.append(properties(value).get("type", ""))
        else:
            plain[option] = value
    accelerators += ["kvm"] if "enable-kvm" in plain else []
    accelerators += [word for word in machine.get("accel", "").split(":") if word]
    return Arguments(machine, tuple(objects), tuple(devices), tuple(accelerators), plain, tuple(monitors),
                     tuple(overrides))


def properties(text: str) -> Properties:
    """One option's value: "type,name=value,..." with commas doubled inside of values, or a JSON object."""
    if text.startswith("{"):
        return _from_json(text)
    found: Properties = {}
    # An argument cannot hold a NUL, so it can replace the doubled comma for a while.
    for number, part in enumerate(text.replace(",,", "\0").split(",")):
        name, equals, value = part.replace("\0", ",").partition("=")
        if number == 0 and not equals:
            found["type"] = name
        else:
            # A bare word is a boolean.
            found["type" if name in ("driver", "qom-type") else name] = value if equals else "on"
    return found


def _from_json(text: str) -> Properties:
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    words = {True: "on", False: "off"}
    return {{"qom-type": "type", "driver": "type"}.get(str(name), str(name)):
            words[item] if isinstance(item, bool) else str(item) for name, item in value.items()}


def pairs(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options with their values; one or two dashes mean the same to QEMU."""
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            value = words.pop(0) if words and not re.match(r"--?[a-zA-Z]", words[0]) else ""
            yield word.lstrip("-"), value
