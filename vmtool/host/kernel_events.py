"""What the kernel reports by itself: its messages, and the devices that leave a bus (by udev)."""

from __future__ import annotations

import contextlib
import os
from typing import Any

KMSG = "/dev/kmsg"
# One record of /dev/kmsg is at most 8 KiB (CONSOLE_EXT_LOG_MAX); with less the kernel gives nothing at all.
RECORD = 8192
# Records and events that are read at a time: a kernel that writes without end keeps nobody from the rest.
MOST = 500


class KernelMessages:
    """The messages from now on. Who may not read them sees none."""

    def __init__(self, path: str = KMSG) -> None:
        self.descriptor = -1
        with contextlib.suppress(OSError):
            self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self.descriptor, 0, os.SEEK_END)

    def new(self) -> list[str]:
        """The texts since the last call, without the lines of properties below them (dev-kmsg in the kernel's ABI)."""
        found: list[str] = []
        while self.descriptor >= 0 and len(found) < MOST:
            try:
                record = os.read(self.descriptor, RECORD)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # what was not read in time was overwritten; the next read goes on behind it
            except OSError:
                self.close()
                break
            if not record:
                break
            found.append(record.decode(errors="replace").partition(";")[2].partition("\n")[0])
        return found

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class RemovedDevices:
    """PCI devices that leave from now on; none where no udev sends anything."""

    def __init__(self) -> None:
        self.monitor: Any = None
        with contextlib.suppress(ImportError, OSError):
            import pyudev

            self.monitor = pyudev.Monitor.from_netlink(pyudev.Context())
            self.monitor.filter_by("pci")
            self.monitor.start()

    @property
    def descriptor(self) -> int:
        return self.monitor.fileno() if self.monitor else -1

    def new(self) -> list[str]:
        """Their addresses."""
        found: list[str] = []
        for _ in range(MOST):
            device = None
            with contextlib.suppress(OSError):  # there were more than the socket holds
                device = self.monitor.poll(timeout=0) if self.monitor else None
            if device is None:
                break
            if device.action == "remove":
                found.append(device.sys_name)
        return found
