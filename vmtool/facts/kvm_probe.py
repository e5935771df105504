"""Run as a child: does /dev/kvm run a guest, and how fast? One JSON document on stdout.

The guest is five instructions of real mode: count down from 10,000 and halt. Where the processor runs it, that
takes well under a millisecond; where a hypervisor below only pretends (pvm), hundreds of times as long.
The ioctl numbers and structures are those of Documentation/virt/kvm/api.rst and <linux/kvm.h>. The file imports
nothing of vmtool: the parent gives up on a child that hangs, and nothing of vmtool hangs with it.
"""

import ctypes
import fcntl
import json
import mmap
import os
import platform
import signal
import struct
import time
from typing import Any

LOOPS = 10_000
RAM = 0x10000
ENTRY = 0x1000
# Of a host that is busy, one of them runs without being interrupted.
TRIES = 3
# Seconds; a processor takes a fiftieth of that.
FAST = 0.001
# Seconds within which all tries have to end; the parent's deadline is longer.
ALARM = 3
# VIRTCCA_EXTENSION: what the virtCCA kernel (OLK-6.6) answers 1 to; mainline numbers end well below.
VIRTCCA_EXTENSION = 300
EXITS = {5: "halted", 8: "shutdown", 9: "failed entry", 17: "internal error"}


def _io(number: int) -> int:
    return 0xAE << 8 | number


def _iow(number: int, size: int) -> int:
    return 1 << 30 | size << 16 | _io(number)


def _ior(number: int, size: int) -> int:
    return 2 << 30 | size << 16 | _io(number)


def probe() -> dict[str, Any]:
    """What was learnt, up to the first thing that failed; `stage` and `error` say which and why."""
    seen: dict[str, Any] = {"stage": "open", "machine": platform.machine()}
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
        seen["stage"] = "version"
        seen["api"] = fcntl.ioctl(kvm, _io(0x00))
        seen["stage"] = "create"
        seen["virtcca_extension"] = fcntl.ioctl(kvm, _io(0x03), VIRTCCA_EXTENSION)
        machine = fcntl.ioctl(kvm, _io(0x01), 0)
        seen["stage"] = "run"
        if platform.machine() == "x86_64":
            seen |= run_guest(kvm, machine)
    except (OSError, TimeoutError) as error:
        seen |= {"error": str(error), "errno": getattr(error, "errno", None)}
    return seen


def run_guest(kvm: int, machine: int) -> dict[str, Any]:
    """Run the loop, again when it was slow (the host may have been busy); the best time counts."""
    memory = mmap.mmap(-1, RAM)
    # mov ecx, LOOPS; again: dec ecx; jnz again; hlt -- 16-bit code with operand-size prefixes.
    code = b"\x66\xb9" + struct.pack("<I", LOOPS) + b"\x66\x49" + b"\x75\xfc" + b"\xf4"
    memory[ENTRY:ENTRY + len(code)] = code
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(machine, _iow(0x46, 32), struct.pack("<IIQQQ", 0, 0, 0, RAM, address))
    cpu = fcntl.ioctl(machine, _io(0x41), 0)
    state = mmap.mmap(cpu, fcntl.ioctl(kvm, _io(0x04)))
    best, end = float("inf"), "not run"
    for _ in range(TRIES):
        _reset(cpu)
        begin = time.perf_counter()
        fcntl.ioctl(cpu, _io(0x80), 0)
        best = min(best, time.perf_counter() - begin)
        reason = struct.unpack_from("<I", state, 8)[0]
        end = EXITS.get(reason, f"exit reason {reason}")
        if end != "halted" or best < FAST:
            break
    return {"guest": end, "seconds": best, "instructions": 2 * LOOPS + 2}


def _reset(cpu: int) -> None:
    """Real mode, code segment 0, instruction pointer at the loop, flags with the bit that is always set."""
    sregs = bytearray(312)
    fcntl.ioctl(cpu, _ior(0x83, len(sregs)), sregs)
    struct.pack_into("<Q", sregs, 0, 0)
    struct.pack_into("<H", sregs, 12, 0)
    fcntl.ioctl(cpu, _iow(0x84, len(sregs)), bytes(sregs))
    general = [0] * 18
    general[16], general[17] = ENTRY, 2
    fcntl.ioctl(cpu, _iow(0x82, 144), struct.pack("<18Q", *general))


def _give_up(_number: int, _frame: object) -> None:
    raise TimeoutError(f"the guest did not halt within {ALARM} s")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(ALARM)
    print(json.dumps(probe()))
