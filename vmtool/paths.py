"""Where vmtool keeps what it must remember: the names of directories and files, no more."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vmtool.errors import NotReady, Refused
from vmtool.frozen import dataclass

DEFAULT = "/var/lib/vmtool"
# Also a host name label (RFC 1123), a containerd identifier and a part of a file name, hence so narrow.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# An upgrade launches the new one beside the old: each has a slot in the instance's directory, and the next upgrade
# takes the other one again.
SLOTS = ("", "b")


@dataclass(frozen=True)
class State:
    """The state directory.

    Args:
        root: absolute path; everything below is of mode 0700.
    """

    root: Path

    @classmethod
    def at(cls, path: str | None = None) -> State:
        """The state directory that the user named, the one of VMTOOL_STATE_DIR, or the default. By whatever links it is
        reached, it is one, with one containerd and one set of locks.

        Raises:
            Refused: its path would break the lines of what it is written in, such as systemd's units.
        """
        root = os.path.realpath(path or os.environ.get("VMTOOL_STATE_DIR") or DEFAULT)
        if not root.isprintable():
            raise Refused(f"the path of the state directory has unprintable characters: {root!r}",
                          hint="choose another one: --state-dir DIR")
        return cls(Path(root))

    @property
    def run(self) -> Path:
        """Sockets and pids, on a file system that a reboot empties; short, since a socket's path has 107 bytes."""
        import hashlib  # loads OpenSSL, which most commands do not need

        return Path("/run/vmtool") / hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]

    @property
    def containerd(self) -> Path:
        """The private containerd's root, configuration and log."""
        return self.root / "containerd"

    @property
    def ca(self) -> Path:
        """vmtool's own CA."""
        return self.root / "ca"

    @property
    def host_lock(self) -> Path:
        return self.root / "locks" / "host"

    @property
    def watch_lock(self) -> Path:
        """Held by the `vmtool watch` that keeps the instances."""
        return self.root / "locks" / "watch"

    @property
    def instances(self) -> Path:
        return self.root / "instances"

    @property
    def networks(self) -> Path:
        return self.root / "networks"

    def check_readable(self) -> None:
        """Look whether this user may read what vmtool remembers: otherwise all would seem empty.

        Raises:
            NotReady: the user may not.
        """
        for path in (self.root, self.root / "locks"):
            try:
                os.scandir(path).close()
            except FileNotFoundError:
                continue
            except PermissionError as error:
                raise NotReady(f"{path} is not readable for user {os.geteuid()}",
                               hint="become root, or name a state directory of your own with --state-dir") from error

    def instance(self, name: str) -> Path:
        """The directory of an instance."""
        return self.instances / checked_name(name, "an instance")

    def network(self, name: str) -> Path:
        """The directory of a network."""
        return self.networks / checked_name(name, "a network")

    def lock(self, directory: Path) -> Path:
        """The lock of an instance's or network's directory; outside of it, so that it outlives its removal."""
        return self.root / "locks" / f"{directory.parent.name}-{directory.name}"


def checked_name(name: str, of: str) -> str:
    """The name, when it is one.

    Raises:
        Refused: it is not 1 to 63 lower-case letters, digits and inner hyphens.
    """
    if not NAME.fullmatch(name):
        raise Refused(f"{name!r} cannot name {of}", hint="use 1 to 63 lower-case letters, digits and inner hyphens")
    return name
