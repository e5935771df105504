"""Bytes of image files that no tool of the distribution writes: a program of vmtool's own, run as a step of a plan.

    python -m vmtool.rootfs.build.workers.image_bytes VERB ...

    carve IMAGE START SIZE OUT     copy a piece of IMAGE to a new file, sparse
    place FILE IMAGE START [ROOM]  copy FILE into IMAGE at START, sparse
    label IMAGE GEOMETRY [SALT]    write labels and headers; with a salt also the hashes,
                                   and their values to verity.json beside GEOMETRY
    seal MANIFEST IMAGE OUT [HOOK] write the manifest of what MANIFEST's image has become,
                                   with its new hook; verity.json may lie beside OUT
    insert IMAGE START FILE PATH MODE DEBUGFS...   put FILE into the ext4 at START
    mend PROGRAM ARGUMENTS...      run e2fsck; "repaired" (exit status 1) is no failure

Sizes in bytes. It runs in a process of its own, so that it has a deadline and its memory is its own.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vmtool.host import files, processes
from vmtool.rootfs.format.digest import read_content
from vmtool.rootfs.format.hash_tree import Verity, hash_tree
from vmtool.rootfs.format.layout import Geometry, headers
from vmtool.rootfs.format.sparse import written

NAME = "verity.json"


def copy_sparse(source: int, start: int, size: int, target: int, to: int) -> None:
    """Copy a piece between two open files; holes stay holes, so the target must be new or zero there."""
    for at, hole in written(source, start + size, start):
        length, done = hole - at, 0
        while done < length:
            copied = os.copy_file_range(source, target, length - done, at + done, to + at - start + done)
            if not copied:
                raise EOFError(f"the file ends at byte {at + done}, {start + size} were expected")
            done += copied


def carve(image: Path, start: int, size: int, out: Path) -> None:
    """Copy a piece of the image to a new file."""
    source = os.open(image, os.O_RDONLY)
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(target, size)
        copy_sparse(source, start, size, target, 0)
    finally:
        os.close(source)
        os.close(target)


def place(file: Path, image: Path, start: int, room: int | None = None) -> None:
    """Copy a file into the image, where only zeros are; it may have `room` bytes at most."""
    if room is not None and file.stat().st_size > room:
        sys.exit(f"the file system has {file.stat().st_size} bytes, and the image has room for {room}: raise `size`")
    source, target = os.open(file, os.O_RDONLY), os.open(image, os.O_WRONLY)
    try:
        copy_sparse(source, 0, os.fstat(source).st_size, target, start)
    finally:
        os.close(source)
        os.close(target)


def label(image: Path, geometry: Geometry, salt: str) -> Verity | None:
    """Write what lies around the root file system; the image gets its whole size."""
    descriptor = os.open(image, os.O_RDWR)
    try:
        os.ftruncate(descriptor, geometry.total)
        for at, data in headers(geometry).items():
            os.pwrite(descriptor, data, at)
        if not geometry.hash_size:
            return None
        root, tree = hash_tree(descriptor, geometry.start, geometry.size, bytes.fromhex(salt))
        os.pwrite(descriptor, tree, geometry.hash_start)
        return Verity(root, salt, geometry.size // 4096)
    finally:
        os.close(descriptor)


def seal(manifest: Path, image: Path, out: Path, hook: str = "") -> None:
    """Write the manifest of a changed image. Its sha256 goes: hashing gigabytes of holes would take too long."""
    from vmtool.rootfs.metadata.manifest import VerityPart, manifest_text, read_manifest  # pydantic is heavy

    made = out.with_name(NAME)
    values = json.loads(made.read_text()) if made.exists() else None
    verity = VerityPart(**values, kernel_verity_params=Verity(**values).kernel_params) if values else None
    old = read_manifest(manifest)
    promises = old.promises.model_copy(update={"hook": hook or old.promises.hook})
    changed = old.model_copy(update={**read_content(image), "sha256": None, "verity": verity,
                                     "promises": promises})
    files.write(out, manifest_text(changed), mode=0o644)


def insert(image: Path, start: int, file: Path, path: str, mode: int, debugfs: Sequence[str]) -> None:
    """Put a file into an ext4, in the place of one that is there. debugfs never fails, so it is read back."""
    device, (parent, _, name) = f"{image}?offset={start}", path.rpartition("/")
    directories = [path[:at] for at in range(1, len(parent) + 1) if path[at] == "/"]
    # mkdir of one that is there fails and leaves a lost inode behind, so each is asked for first.
    lines = [f'mkdir "{directory}"' for directory in [*directories, parent] if directory and "Type:" not in
             processes.run((*debugfs, "-R", f'stat "{directory}"', device), deadline=60).out]
    lines += [f'cd "{parent or "/"}"', f'rm "{name}"', f'write "{file}" "{name}"',
              f'set_inode_field "{name}" mode 0{stat.S_IFREG | mode:o}', f'set_inode_field "{name}" uid 0',
              f'set_inode_field "{name}" gid 0']
    told = processes.run((*debugfs, "-w", "-f", "-", device), deadline=300, stdin="\n".join(lines).encode())
    seen = processes.run((*debugfs, "-R", f'stat "{path}"', device), deadline=60)
    if not re.search(rf"Type: regular\s+Mode:\s+{mode:04o}\b", seen.out) or not re.search(
            rf"\bSize: {file.stat().st_size}\b", seen.out):
        sys.exit("\n".join([told.out[-2000:], told.err[-2000:], f"{path} did not get into the image"]))


def mend(argv: Sequence[str]) -> None:
    """Run e2fsck, whose exit status has bits: 1 is "errors were corrected" (e2fsck(8))."""
    result = processes.run(argv, deadline=3600)
    sys.stdout.write(result.out + result.err)
    sys.exit(0 if result.status in (0, 1) else result.status)


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    match list(words):
        case ["carve", image, start, size, out]:
            carve(Path(image), int(start), int(size), Path(out))
        case ["place", file, image, start, *room] if len(room) < 2:
            place(Path(file), Path(image), int(start), *map(int, room))
        case ["label", image, geometry, *salt]:
            made = label(Path(image), Geometry(**json.loads(Path(geometry).read_text())), *(salt or [""]))
            if made:
                files.write(Path(geometry).with_name(NAME), json.dumps(asdict(made)) + "\n")
        case ["seal", manifest, image, out, *hook] if len(hook) < 2:
            seal(Path(manifest), Path(image), Path(out), *hook)
        case ["insert", image, start, file, path, mode, *debugfs] if debugfs:
            insert(Path(image), int(start), Path(file), path, int(mode, 8), debugfs)
        case ["mend", *argv] if argv:
            mend(argv)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
