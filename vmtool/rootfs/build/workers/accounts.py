"""Accounts of a guest image: added as lines of its files, and none with a password."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmtool.errors import Refused

if TYPE_CHECKING:
    from vmtool.rootfs.build.workers.merge_layers import Layers
    from vmtool.rootfs.recipe.layer import Account

# What crypt(3) can never give, so no password fits (shadow(5)).
LOCKED = ("*", "!", "!*", "!!", "*LK*")


def add_users(layers: Layers, users: Sequence[Account]) -> None:
    """Add each to passwd, group and shadow, with a group of its own.

    Raises:
        Refused: the name or the number is taken.
    """
    if not users:
        return
    tables = {name: (layers.data(f"etc/{name}") or b"").decode().splitlines() for name in ("passwd", "group", "shadow")}
    for user in users:
        name, number = user.name, user.uid
        for table in ("passwd", "group"):
            for line in tables[table]:
                fields = line.split(":")
                if fields[0] == name or fields[2:3] == [str(number)]:
                    raise Refused(f"users: {name} ({number}): /etc/{table} has {line!r} already")
        tables["passwd"].append(f"{name}:x:{number}:{number}::{user.home}:{user.shell}")
        tables["group"].append(f"{name}:x:{number}:")
        tables["shadow"].append(f"{name}:!:1::::::")
    for table, lines in tables.items():
        layers.add(f"etc/{table}", ("\n".join(lines) + "\n").encode(), mode=0o600 if table == "shadow" else 0o644)


def check_no_passwords(layers: Layers) -> None:
    """Raise Refused when somebody could log in with a password, an empty one included."""
    found = []
    for table in ("shadow", "passwd"):
        for line in (layers.data(f"etc/{table}") or b"").decode(errors="replace").splitlines():
            name, _, rest = line.partition(":")
            password = rest.partition(":")[0]
            if ":" in line and password not in LOCKED and (table, password) != ("passwd", "x"):
                found.append(f"/etc/{table}: {name} has {'a password' if password else 'an empty password'}")
    if found:
        raise Refused("a guest image holds no passwords", details=found)
