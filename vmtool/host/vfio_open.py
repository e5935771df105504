"""Opening a VFIO node as a virtual machine does, to hear from the kernel whether it would be given the device."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

CONTAINER, IOMMUFD = "/dev/vfio/vfio", "/dev/iommu"
# include/uapi/linux/vfio.h and iommufd.h: type ';', numbers from 100 and from 0x80.
SET_IOMMU, GROUP_GET_STATUS, GROUP_SET_CONTAINER = 0x3B66, 0x3B67, 0x3B68
DEVICE_BIND, DEVICE_ATTACH, IOAS_ALLOC = 0x3B76, 0x3B77, 0x3B81
TYPE1V2, VIABLE = 3, 1


def open_as_machine(node: str) -> str:
    """What the kernel says to a machine that opens this node.

    A group's node (/dev/vfio/6) is given an IOMMU domain of its own, as for a guest; no device is opened, so none is
    reset. A device's own node (/dev/vfio/devices/vfio0) is bound to iommufd and attached, which does open the device.
    Everything is let go of again.

    Returns:
        Empty when all of it was granted; "viable" when the group is not viable; else the step and the error's name,
        such as "open EBUSY" or "domain EPERM".
    """
    step = "open"
    with contextlib.ExitStack() as stack:
        def opened(path: str) -> int:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            own = opened(node)
            if os.path.basename(os.path.dirname(node)) == "devices":
                step = "bind"
                _attach(own, opened(IOMMUFD))
                return ""
            step = "status"
            status = bytearray(struct.pack("II", 8, 0))
            fcntl.ioctl(own, GROUP_GET_STATUS, status)
            if not struct.unpack("II", status)[1] & VIABLE:
                return "viable"
            step = "container"
            container = opened(CONTAINER)
            fcntl.ioctl(own, GROUP_SET_CONTAINER, struct.pack("i", container))
            step = "domain"
            fcntl.ioctl(container, SET_IOMMU, TYPE1V2)
        except OSError as error:
            return f"{step} {errno.errorcode.get(error.errno or 0, 'EIO')}"
    return ""


def _attach(device: int, iommufd: int) -> None:
    """Bind a device to an iommufd and attach it to an address space; both end with the descriptors."""
    fcntl.ioctl(device, DEVICE_BIND, bytearray(struct.pack("IIiI", 16, 0, iommufd, 0)))
    space = bytearray(struct.pack("III", 12, 0, 0))
    fcntl.ioctl(iommufd, IOAS_ALLOC, space)
    fcntl.ioctl(device, DEVICE_ATTACH, bytearray(struct.pack("III", 12, 0, struct.unpack("III", space)[2])))
