"""What is claimed about a guest by whatever way it was started: its QEMU's arguments and program, the file by which it
was started, and the command line that its kernel shows."""

from __future__ import annotations

import hashlib

from vmtool.claims import WORD, Claim
from vmtool.facts.qemu_processes import read_qemu
from vmtool.instance.instance import InstanceRecord
from vmtool.machine import Reader
from vmtool.qemu.claims import vm_claims
from vmtool.qemu.processes import opened_devices, real_path


def qemu_claims(reader: Reader, record: InstanceRecord, name: str,
                launched: int | None) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """Look at the QEMU that runs now. Without one to look at nothing is proven.

    Args:
        name: that it was started with.
        launched: the process that the launch started, as its pid file has it with the start time.

    Returns:
        The claims, and its arguments; none when there is not exactly one QEMU of this name.
    """
    found = read_qemu(reader, name, launched) if launched else ()
    if len(found) != 1:
        count = f"{len(found)} QEMU processes" if found else "no QEMU process"
        seen = f"{count} of this launch (pid {launched}) named {name}"
        tee = (Claim("tee", "not-checked", f"{record.tee} was asked for; {seen}") if record.confidential
               else Claim("tee", "failed", f"NOT CONFIDENTIAL: none was asked for; {seen}"))
        return (tee,), ()
    [process] = found
    kernel = record.details["kernel"]
    claims = vm_claims(process.argv, record.tee, record.devices, {kernel, real_path(reader, kernel)},
                       opened_devices(reader, process.pid))
    right = process.program == real_path(reader, record.details["program"])
    program = Claim("vm.program", "proven" if right else "failed" if process.program else "not-checked",
                    process.program or f"/proc/{process.pid}/exe does not tell")
    return (*claims, program), process.argv


def unchanged_claim(path: str, text: str | None, digest: str) -> Claim:
    """Whether the file is still what was rendered; it was read at the start only.

    Args:
        text: its content; None when it is gone.
        digest: SHA-256 of what was rendered.
    """
    if text is None:
        return Claim("configuration.unchanged", "failed", f"{path} is gone")
    found = hashlib.sha256(text.encode()).hexdigest()
    return Claim("configuration.unchanged", "proven" if found == digest else "failed",
                 f"{path.rpartition('/')[2]} sha256:{found}")


def cmdline_claim(heard: str, wanted: str) -> Claim:
    """Whether the guest's kernel has the command line that it was given.

    Args:
        heard: /proc/cmdline, as the guest says; wanted: as QEMU was given it. Either is empty when it is unknown.
    """
    if not wanted or not heard:
        return Claim("guest.cmdline", "not-checked", f"{WORD}{heard or 'nothing'}")
    return Claim("guest.cmdline", "proven" if _words(heard) == _words(wanted) else "failed", WORD + heard)


def _words(commandline: str) -> list[str]:
    """A firmware that loads the kernel adds where it put the initrd (OVMF: initrd=initrd)."""
    return [word for word in commandline.split() if not word.startswith("initrd=")]
