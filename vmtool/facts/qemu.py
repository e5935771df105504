"""Running QEMU processes, with their arguments as the kernel shows them."""

from __future__ import annotations

import itertools
import posixpath
from dataclasses import dataclass

from vmtool.facts.reader import Reader


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


def read_qemu(reader: Reader, name: str) -> tuple[QemuProcess, ...]:
    """Every QEMU that was started with `-name NAME`, options behind a comma aside; by pid."""
    found = []
    for pid in sorted(int(entry) for entry in reader.names("/proc") if entry.isdecimal()):
        text = reader.text(f"/proc/{pid}/cmdline") or ""
        argv = tuple(text.removesuffix("\0").split("\0"))
        program = (reader.link(f"/proc/{pid}/exe") or "").removesuffix(" (deleted)")
        if posixpath.basename(program or argv[0]).startswith("qemu-") and name_of(argv) == name:
            found.append(QemuProcess(pid, program, argv))
    return tuple(found)


def name_of(argv: tuple[str, ...]) -> str:
    """The name that `-name` gives: its first word, or its guest=."""
    for option, value in itertools.pairwise(argv):
        if option in ("-name", "--name"):
            return value.partition(",")[0].removeprefix("guest=")
    return ""
