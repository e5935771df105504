"""What vmtool lays over the packages of an image: an overlay, as the worker `merge_layers` gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from vmtool.frozen import dataclass


@dataclass(frozen=True)
class OverlayFile:
    """A file of the guest: its text, or the file of the host's that it is a copy of, with the SHA-256 of that."""

    path: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    text: str | None = None
    source: Path | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Account:
    """A user of the guest, with a group of its own."""

    name: str
    uid: int
    home: str
    shell: str


@dataclass(frozen=True)
class Overlay:
    """What is laid over the packages.

    Args:
        epoch: the time of every file that is added.
        drop: directories that are emptied before.
        links: path to target.
        enable: systemd units.
    """

    epoch: int
    files: tuple[OverlayFile, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    users: tuple[Account, ...] = ()
    enable: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
