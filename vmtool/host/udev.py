"""What udev knows and sysfs does not: properties of devices, and the moment at which a node is there. By libudev, which
may be missing; then nothing is known, and nodes are looked for again and again."""

from __future__ import annotations

import functools
import json
import os
import time
from typing import Any

from vmtool.foreign import parse_json
from vmtool.host.guarded_reads import read_with_deadline

DATABASE = "/run/udev/data"
# There while udevd runs; libudev itself goes by it.
CONTROL = "/run/udev/control"
# Groups are of class vfio, the devices' own nodes of class vfio-dev (drivers/vfio/{group,vfio_main}.c).
SUBSYSTEMS = ("vfio", "vfio-dev")
POLL = 0.02
# The longest time between two looks while udev is waited for: its word wakes, the look decides.
LOOK = 0.5


def properties(path: str, deadline: float) -> dict[str, str]:
    """The properties of the device with this directory in /sys; empty when there is no udev, or no answer in time.

    libudev reads the device's `uevent` before the database (device_properties_prepare in sd-device.c of systemd 252,
    seen with strace), and that takes the device's lock. So a child does it, which can be left behind.
    """
    if not os.path.isdir(DATABASE) or _context() is None:
        return {}
    reported = read_with_deadline((path,), _properties, deadline).get(path)
    return dict(parse_json(reported)) if reported else {}


def await_node(path: str, deadline: float) -> bool:
    """Whether the node is there, at the latest after this many seconds."""
    if os.path.exists(path):
        return True
    # From before the next look on, so that no event falls between the two.
    monitor, end = _monitor(), time.monotonic() + deadline
    while not os.path.exists(path):
        left = end - time.monotonic()
        if left <= 0:
            return False
        if monitor:
            monitor.poll(timeout=min(left, LOOK))
        else:
            time.sleep(min(left, POLL))
    return True


@functools.cache
def _context() -> Any:
    """libudev, or None."""
    try:
        import pyudev  # takes 50 ms, and runs ldconfig to find the library

        return pyudev.Context()
    except (ImportError, OSError):
        return None


def _properties(path: str) -> str | None:
    import pyudev

    try:
        return json.dumps(dict(pyudev.Devices.from_sys_path(_context(), path).properties))
    except pyudev.DeviceNotFoundError:
        return None


def _monitor() -> Any:
    """Events that have begun to be kept; None where no udevd sends any."""
    if not os.path.exists(CONTROL) or _context() is None:
        return None
    import pyudev

    try:
        monitor = pyudev.Monitor.from_netlink(_context())
        for subsystem in SUBSYSTEMS:
            monitor.filter_by(subsystem)
        monitor.start()
        return monitor
    except OSError:
        return None
