"""What is claimed about the image that a guest runs: its bytes and its root hash, against its build's manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vmtool import plan as p
from vmtool.claims import Claim
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.rootfs.format.workers import digest
from vmtool.rootfs.metadata.manifest_values import read_manifest_values

# A worker has a deadline. It skips holes, so a large image takes as long as what was written to it.
SECONDS = 1800.0


@dataclass(frozen=True)
class Promise:
    """What the manifest beside an image says of it; empty words where it says nothing.

    Args:
        path: of the manifest; empty when there is none.
        kind: how `digest` was made, "sha256" of every byte or vmtool's "content": see `vmtool.rootfs.format.digest`.
    """

    path: str = ""
    kind: Literal["sha256", "content"] = "sha256"
    digest: str = ""
    root_hash: str = ""


def read_promise(reader: Reader, image: str) -> Promise:
    """Read IMAGE.manifest.json; one that is no manifest promises nothing."""
    manifest = read_manifest_values(reader, image)
    if not manifest:
        return Promise()
    kind: Literal["sha256", "content"] = "sha256" if manifest.get("sha256") else "content"
    return Promise(f"{image}.manifest.json", kind, str(manifest.get(kind) or ""),
                   str(manifest["verity"].get("root_hash") or ""))


def bytes_claim(reader: Reader, image: str, promise: Promise, *, whole: bool) -> Claim:
    """Whether the file is still, byte for byte, what was built."""
    if not whole:
        return Claim("image.bytes", "not-checked", f"{image} was not read; with --proof it is")
    reported = reader.run(p.question(digest.Order(promise.kind, Path(image))), deadline=SECONDS)
    found = reported.out.strip() if reported and reported.status == 0 else ""
    if not found:
        return Claim("image.bytes", "not-checked", f"{image} could not be read within {SECONDS:.0f} s")
    evidence = f"{image} {promise.kind}:{found}"
    if not promise.digest:
        return Claim("image.bytes", "not-checked", f"{evidence}; no manifest beside it says what it was")
    if found != promise.digest:
        return Claim("image.bytes", "failed", f"{evidence}; {promise.path} says {promise.digest}")
    return Claim("image.bytes", "proven", f"{evidence}, as {promise.path} says")


def root_hash_claim(promise: Promise, named: str, commandline: str) -> Claim:
    """Whether the guest's kernel was given the root hash, by which dm-verity refuses any other root file system.

    Args:
        named: the root hash of the configuration's kernel_verity_params; empty when it names none.
        commandline: of the guest's kernel, as QEMU was given it; a release without kernel_verity_params has it there.
    """
    wanted = named or promise.root_hash
    if not wanted:
        return Claim("image.root-hash", "not-checked", "neither the configuration nor a manifest names one: nothing "
                                                       "measures the root file system")
    if named and promise.root_hash and named != promise.root_hash:
        return Claim("image.root-hash", "failed", f"the configuration names {named}, "
                     f"{promise.path} {promise.root_hash}")
    if wanted in commandline:
        return Claim("image.root-hash", "proven", f"{wanted} is on the command line that QEMU gave the guest's kernel"
                     + (f", as {promise.path} says" if promise.root_hash else "; no manifest to compare it with"))
    if named and commandline:
        return Claim("image.root-hash", "failed", f"{named} was asked for, and the guest's command line lacks it")
    return Claim("image.root-hash", "not-checked", f"{promise.path or 'the configuration'} names {wanted}, which the "
                                                   "guest's command line was not seen to have")
