"""Laying files over an archive of packages: a worker.

A later archive's file takes the place of an earlier one's, and the overlay's of both. Next to the new archive it writes
layer.json (kernel release) and, when the packages brought a kernel, vmlinuz. Nothing is unpacked, so it needs no
privilege, and owners and device nodes are kept. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.build.workers import accounts, enable_units
from vmtool.rootfs.recipe.layer import Overlay

_HOPS = 16


@dataclass(frozen=True)
class Order:
    """The archives, the overlay, and the new archive."""

    archives: tuple[Path, ...]
    out: Path
    overlay: Overlay


class Layers:
    """The names of several archives, the last one's winning; `text` and `add` work on the result."""

    def __init__(self, archives: Sequence[tarfile.TarFile], epoch: int) -> None:
        self.epoch = epoch
        self.members: dict[str, tuple[tarfile.TarFile | None, tarfile.TarInfo, bytes | Path | None]] = {}
        for archive in archives:
            for info in archive:
                info.name = info.name.removeprefix("./").strip("/") or "."
                self.members[self.resolve(info.name)] = (archive, info, None)
        for name in list(self.members):                # a later archive need not have the directories of its files
            if (parent := posixpath.dirname(name)) and parent not in self.members:
                self.add(parent, mode=0o755)

    def resolve(self, path: str) -> str:
        """The path with links in its directories followed: /lib/x is /usr/lib/x where /lib is a link."""
        parts, done = path.strip("/").split("/"), ""
        for count, part in enumerate(parts):
            done = posixpath.join(done, part)
            for _ in range(_HOPS if count < len(parts) - 1 else 0):
                found = self.members.get(done)
                if not found or not found[1].issym():
                    break
                target = posixpath.join("/", posixpath.dirname(done), found[1].linkname)
                done = posixpath.normpath(target).lstrip("/")
        return done

    def data(self, path: str) -> bytes | None:
        """The bytes of a regular file, hard links followed; None when it is none."""
        found = self.members.get(self.resolve(path))
        if found and found[1].islnk():
            found = self.members.get(found[1].linkname.removeprefix("./"))
        if not found or not found[1].isreg():
            return None
        archive, info, content = found
        if isinstance(content, Path):
            return content.read_bytes()
        if content is not None or archive is None:
            return content
        file = archive.extractfile(info)
        return file.read() if file else None

    def add(self, path: str, content: bytes | Path | None = None, *, link: str = "", mode: int = 0o644, uid: int = 0,
            gid: int = 0) -> None:
        """Add or replace a file, a link, or (with neither content nor link) a directory; with its parents."""
        name = self.resolve(path)
        parent = posixpath.dirname(name)
        if parent and parent not in self.members:
            self.add(parent, mode=0o755)
        old = self.members.get(name)
        if old and old[1].isdir() and (content is not None or link):
            raise Refused(f"{path}: a directory of the packages is there")
        info = tarfile.TarInfo(name)
        info.type = tarfile.SYMTYPE if link else tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
        info.linkname, info.mode, info.uid, info.gid, info.mtime = link, 0o777 if link else mode, uid, gid, self.epoch
        if content is not None:
            info.size = content.stat().st_size if isinstance(content, Path) else len(content)
        self.members[name] = (None, info, content)

    def drop(self, path: str) -> None:
        """Remove all below a directory; it stays itself."""
        below = self.resolve(path) + "/"
        for name in [name for name in self.members if name.startswith(below)]:
            del self.members[name]

    def write(self, out: Path) -> None:
        """One archive, sorted by name, so that a directory comes before what is in it."""
        with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as target:
            for name in sorted(self.members, key=lambda name: name.split("/")):
                archive, info, content = self.members[name]
                info.name = name
                info.uname = info.gname = ""
                if info.islnk():
                    info.linkname = info.linkname.removeprefix("./")
                    if info.linkname not in self.members:
                        raise Refused(f"/{name} is a hard link to /{info.linkname}, which the recipe takes away")
                info.pax_headers = {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY")}
                if not info.isreg():
                    target.addfile(info)
                elif isinstance(content, Path):
                    with content.open("rb") as file:
                        target.addfile(info, file)
                else:
                    target.addfile(info, io.BytesIO(content) if content is not None else _stream(archive, info))


def _stream(archive: tarfile.TarFile | None, info: tarfile.TarInfo) -> Any:
    return archive.extractfile(info) if archive else None


def run(order: Order, host: Host) -> None:
    """Write the archive of it all.

    Raises:
        Refused: the overlay and the packages contradict each other.
    """
    overlay, out = order.overlay, order.out
    opened = [tarfile.open(path) for path in order.archives]  # noqa: SIM115  (closed below)
    try:
        layers = Layers(opened, overlay.epoch)
        facts = {"kernel": _take_kernel(layers, out.with_name("vmlinuz"))}
        for path in overlay.drop:
            layers.drop(path)
        for each in overlay.files:
            content = each.source or (each.text or "").encode()
            layers.add(each.path, content, mode=each.mode, uid=each.uid, gid=each.gid)
        for path, target in overlay.links.items():
            layers.add(path, link=target)
        accounts.add_users(layers, overlay.users)
        enable_units.enable(layers, overlay.enable)
        accounts.check_no_passwords(layers)
        layers.write(out)
        out.with_name("layer.json").write_text(json.dumps(facts))
    finally:
        for archive in opened:
            archive.close()


def _take_kernel(layers: Layers, out: Path) -> str:
    """Write the packages' kernel to `out`; its release, or the one that modules are there for."""
    releases = sorted({name.split("/")[3] for name in layers.members if name.startswith("usr/lib/modules/")
                       and name.count("/") >= 4} | {name.split("/")[2] for name in layers.members
                                                    if name.startswith("lib/modules/") and name.count("/") >= 3})
    for name in sorted(layers.members, reverse=True):
        if name.startswith("boot/vmlinu") and (data := layers.data(name)):
            out.write_bytes(data)
            return name.partition("-")[2]
    return releases[-1] if releases else ""
