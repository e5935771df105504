"""Messages of real kernels, and which GPU they say is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmtool.host.kernel_events import MOST, KernelMessages
from vmtool.watch.gpu_trouble import troubled

DEVICES = ("0000:17:00.0", "0000:2a:00.0", "0009:01:00.0")


@pytest.mark.parametrize(("message", "device"), [
    ("NVRM: Xid (PCI:0000:17:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", "0000:17:00.0"),
    ("NVRM: GPU 0000:2a:00.0: GPU has fallen off the bus.", "0000:2a:00.0"),
    ("NVRM: Xid (PCI:0009:01:00): 119, pid=1234, Timeout waiting for RPC from GSP!", "0009:01:00.0"),
    ("NVRM: Xid (PCI:0000:17:00): 48, An uncorrectable double bit error (DBE) has been detected", "0000:17:00.0"),
    ("vfio-pci 0000:17:00.0: not ready 65535ms after FLR; giving up", "0000:17:00.0"),
    ("vfio-pci 0000:17:00.0: timed out waiting for pending transaction; performing function level reset anyway",
     "0000:17:00.0"),
    ("vfio-pci 0000:2A:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Transaction Layer", "0000:2a:00.0"),
    ("vfio-pci 0000:2a:00.0: Unable to change power state from D3cold to D0, device inaccessible", "0000:2a:00.0"),
    ("amdgpu 0000:17:00.0: amdgpu: GPU reset begin!", "0000:17:00.0"),
    ("NVRM: Xid (PCI:0000:17:00): 13, Graphics Exception: a program of a guest", ""),
    ("NVRM: Xid (PCI:0000:99:00): 79, another host's GPU has fallen off the bus", ""),
    ("NVRM: Xid (PCI:0000:17:00): 790, no such error", ""),
    ("vfio-pci 0000:17:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer", ""),
    ("vfio-pci 0000:17:00.0: enabling device (0000 -> 0002)", ""),
    ("vfio-pci 0001:17:00.0: not ready 65535ms after FLR; giving up", ""),
    ("usb 1-1: device not accepting address 17:00.0", ""), ("", ""),
    ("fallen off the bus " * 500, ""),
])
def test_what_a_message_says(message: str, device: str) -> None:
    assert troubled(message, DEVICES) == device


def test_kernel_messages_are_read_in_bounds(tmp_path: Path) -> None:
    """A pipe stands for the device, whose records come one in each read."""
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    messages = KernelMessages(str(pipe))
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"6,1,2,-;vfio-pci 0000:17:00.0: gone\n SUBSYSTEM=pci\n DEVICE=+pci:0000:17:00.0\n")
    assert messages.new() == ["vfio-pci 0000:17:00.0: gone"]
    assert messages.new() == []
    os.write(writer, b"no semicolon")
    assert messages.new() == [""]
    os.close(writer)
    messages.close()
    assert messages.new() == []
    assert MOST < 10_000


def test_without_the_right_to_read_them_there_are_none(tmp_path: Path) -> None:
    assert KernelMessages(str(tmp_path / "absent")).new() == []
