"""What tests of booting an image share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vmtool.rootfs.boot.plan import Boot
from vmtool.rootfs.format.image_file import read_image
from vmtool.rootfs.metadata.manifest import Promises

PROMISES = Promises(target="kata-containers.target", units=("x.service",), hook="/h/prestart/n.sh",
                    modules=("nvidia",), agent=True)


def boot(path: Path, **changes: object) -> Boot:
    made = Boot(read_image(path), Path("/k"), "amd64", PROMISES, "/usr/bin/qemu-system-x86_64", Path("/q"),
                Path("/bb/busybox"), False, Path("/j"))
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]
