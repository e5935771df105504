"""Image names as people write them, and as containerd knows them."""

from __future__ import annotations

import re


def full_reference(name: str) -> str:
    """A name as containerd knows it: with a registry (docker.io unless given) and a tag (latest unless given)."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def split_digest(name: str) -> tuple[str, str]:
    """NAME@sha256:... as name and digest; the digest is empty when none is given."""
    plain, _, digest = name.partition("@")
    return plain, digest


def slug_of(reference: str) -> str:
    """The name under which an image from elsewhere is remembered."""
    return re.sub(r"[^a-z0-9]+", "-", reference.removeprefix("docker.io/").lower()).strip("-")[:60].strip("-")
