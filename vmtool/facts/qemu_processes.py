"""Running QEMU processes, with their arguments as the kernel shows them.

Any user can start a program with the name and the arguments of a guest's QEMU. So a QEMU counts only when root's, or
when it is of the user that libvirt runs QEMU as, and not in a container, where another vmtool may be; and it is
evidence of a launch only when it is the process that the launch itself started, or descends from it.
"""

from __future__ import annotations

import itertools
import posixpath
import re

from vmtool.facts.process import is_nested, lineage, shown_at, user_of
from vmtool.frozen import dataclass
from vmtool.machine import Reader

# Whom distributions let libvirt run QEMU as, and where that is configured.
NAMES = ("libvirt-qemu", "qemu")
QEMU_CONF = "/etc/libvirt/qemu.conf"
ROOT = 0


@dataclass(frozen=True)
class QemuProcess:
    """A QEMU.

    Args:
        program: the file that runs (/proc/PID/exe); empty when it may not be seen. A process can write what it likes
            into its arguments, but not this.
        argv: its arguments, the program's name first.
    """

    pid: int
    program: str
    argv: tuple[str, ...]


def read_qemu(reader: Reader, name: str, launched: int | None = None) -> tuple[QemuProcess, ...]:
    """Every QEMU that was started with `-name NAME`, options behind a comma aside, by a user who may; by pid.

    Args:
        launched: a process that a launch started; only its own QEMU counts then.
    """
    found, users = [], qemu_users(reader)
    for pid in sorted(int(entry) for entry in reader.names("/proc") if entry.isdecimal()):
        place = f"/proc/{pid}"
        if not (text := reader.text(f"{place}/cmdline")):
            place = shown_at(reader, pid)
            text = reader.text(f"{place}/cmdline") or ""
        argv = tuple(text.removesuffix("\0").split("\0"))
        program = (reader.link(f"{place}/exe") or "").removesuffix(" (deleted)")
        if (posixpath.basename(program or argv[0]).startswith("qemu-") and name_of(argv) == name
                and user_of(reader, pid) in users and not is_nested(reader, pid)
                and (launched is None or launched in lineage(reader, pid))):
            found.append(QemuProcess(pid, program, argv))
    return tuple(found)


def qemu_users(reader: Reader) -> set[int]:
    """The users whose QEMU may be a guest's: root, and whom libvirt runs QEMU as."""
    configured = re.findall(r'^\s*user\s*=\s*"\+?([^"]+)"', reader.text(QEMU_CONF) or "", re.MULTILINE)
    accounts = dict(line.split(":")[:3:2] for line in (reader.text("/etc/passwd") or "").splitlines()
                    if line.count(":") == 6)
    numbers = [accounts.get(name, name) for name in (*configured, *NAMES)]
    return {ROOT, *(int(number) for number in numbers if number.isdecimal())}


def name_of(argv: tuple[str, ...]) -> str:
    """The name that `-name` gives: its first word, or its guest=."""
    for option, value in itertools.pairwise(argv):
        if option in ("-name", "--name"):
            return value.partition(",")[0].removeprefix("guest=")
    return ""
