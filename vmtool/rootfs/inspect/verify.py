"""Whether an image is what its manifest, or a root hash from elsewhere, says: a finding for each part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmtool.debian.tools import Tools
from vmtool.findings import Finding, finding
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.rootfs.format.digest import content_digest, sha256
from vmtool.rootfs.format.hash_tree import BLOCK, hash_tree
from vmtool.rootfs.format.image_file import Extent, ImageFile
from vmtool.rootfs.metadata.manifest import Manifest

_REBUILD = "vmtool rootfs build RECIPE -o IMAGE gives the image of the recipe again"


@dataclass(frozen=True)
class ExpectedImage:
    """What the image shall be.

    Args:
        manifest: None when there is none.
        root_hash: one that was given by hand, in hexadecimal; it counts more than the manifest's.
        salt: the salt that goes with it, in hexadecimal.
    """

    manifest: Manifest | None
    root_hash: str = ""
    salt: str = ""


def verify(reader: Reader, tools: Tools, image: ImageFile, expected: ExpectedImage) -> Iterator[Finding]:
    """Compare all of it."""
    problem = "" if image.kind == "initrd" else image.problem
    yield finding("image.sound", "image file", "fail" if problem else "ok",
                  problem or f"{image.kind}, {image.rootfs.holds if image.rootfs else 'cpio'}", _REBUILD)
    if problem:
        return
    yield from _check_manifest(image, expected.manifest)
    if image.rootfs:
        yield _check_filesystem(reader, tools, image, image.rootfs)
    else:
        output = reader.run(("gzip", "--test", str(image.path)), 600.0)
        said = (output.err.strip().splitlines() or ["gzip says no more"])[-1] if output else ""
        yield finding("filesystem.clean", "archive", "not-checked" if not output else "fail" if output.status else "ok",
                      "gzip did not end in time, or is missing" if not output else said if output.status else
                      "it unpacks to its end", _REBUILD)
    yield _check_verity(image, expected)


def _check_manifest(image: ImageFile, manifest: Manifest | None) -> Iterator[Finding]:
    if manifest is None:
        yield finding("image.sha256", "bytes", "not-checked", "there is no manifest beside the image",
                      "name it with --manifest FILE")
        return
    same = (manifest.layout, manifest.size) == (image.kind, image.size)
    yield finding("image.layout", "layout", "ok" if same else "fail", f"{image.kind}, {image.size} bytes" + (
        "" if same else f"; the manifest says {manifest.layout}, {manifest.size}"), _REBUILD)
    # An image that was grown has no sha256 any more: hashing its holes would take longer than growing it.
    name, digest, wanted = (("sha256", sha256(image.path), manifest.sha256) if manifest.sha256 else
                            ("content", content_digest(image.path), manifest.content))
    yield finding("image.sha256", "bytes", "ok" if digest == wanted else "fail",
                  f"{name} {digest}" + ("" if digest == wanted else f"; the manifest says {wanted}"), _REBUILD)


def _check_filesystem(reader: Reader, tools: Tools, image: ImageFile, rootfs: Extent) -> Finding:
    title = "file system"
    if rootfs.holds == "erofs":
        argv = tools.argv("fsck.erofs", f"--offset={rootfs.start}", image.path)
    else:
        argv = tools.argv("e2fsck", "-fn", f"{image.path}?offset={rootfs.start}")
    output = reader.run(argv, 600.0)
    if output is None:
        return finding("filesystem.clean", title, "not-checked", "its checker did not end in time", "try again")
    lines = [line for line in (output.out + output.err).splitlines() if line.strip()]
    if output.status == 0:
        return finding("filesystem.clean", title, "ok", f"{rootfs.holds}, clean")
    return finding("filesystem.clean", title, "fail", f"exit status {output.status}: {'; '.join(lines[-3:])}", _REBUILD)


def _check_verity(image: ImageFile, expected: ExpectedImage) -> Finding:
    title, manifest = "dm-verity root hash", expected.manifest
    promised = manifest.verity if manifest else None
    wanted = expected.root_hash or (promised.root_hash if promised else "")
    salt = expected.salt or (promised.salt if promised else "")
    if not wanted:
        level, detail = ("ok", "none, and none is promised") if manifest and not image.hashes else (
            "not-checked", "no root hash to compare it with")
        return finding("verity.root", title, level, detail, "give --root-hash HASH")  # type: ignore[arg-type]
    if not image.hashes or not image.rootfs:
        return finding("verity.root", title, "fail", "the image has no hash partition", _REBUILD)
    descriptor = os.open(image.path, os.O_RDONLY)
    try:
        root, tree = hash_tree(descriptor, image.rootfs.start, image.rootfs.size // BLOCK * BLOCK, bytes.fromhex(salt))
        stored = os.pread(descriptor, min(len(tree), image.hashes.size), image.hashes.start)
    finally:
        os.close(descriptor)
    if root != wanted:
        return finding("verity.root", title, "fail", f"the data has {root}, wanted is {wanted}", _REBUILD)
    if stored != tree:
        return finding("verity.root", title, "fail", "the data is right, and the stored hashes are not: "
                       "the guest's kernel would refuse to read it", _REBUILD)
    return finding("verity.root", title, "ok", root)
