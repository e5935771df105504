"""A containerd's images, by ctr."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.architecture import architecture_of
from vmtool.errors import ProgramFailed, VmtoolError
from vmtool.foreign import parse_json
from vmtool.machine import Host


class Store:
    """A containerd's images, by ctr."""

    def __init__(self, host: Host, ctr: Sequence[str]) -> None:
        self.host, self.ctr = host, tuple(ctr)

    def call(self, *words: str) -> str:
        """The output of a call.

        Raises:
            ProgramFailed: it failed.
        """
        result = self.host.execute((*self.ctr, *words), deadline=300)
        if result.status:
            raise ProgramFailed(f"ctr {' '.join(words[:2])}: {result.err.strip()[-300:]}")
        return result.out

    def parent(self, snapshot: Path) -> str:
        """The chain ID of the layers that a snapshot stands on."""
        return str(parse_json(self.call("snapshots", "info", str(snapshot))).get("Parent", ""))

    def digests(self) -> set[str]:
        """The digests of all images."""
        return set(re.findall(r"sha256:([0-9a-f]{64})", self.call("images", "list")))

    def document(self, digest: str) -> dict[str, Any]:
        """A JSON document of the content store."""
        document = parse_json(self.call("content", "get", digest))
        if not isinstance(document, dict):
            raise VmtoolError(f"{digest} is no document")
        return document

    def environment(self, digest: str) -> list[str]:
        """The image's environment, NAME=VALUE; of an index, the image for this machine."""
        document = self.document(digest)
        if "manifests" in document:
            own = architecture_of(platform.machine()).debian
            fitting = [each for each in document["manifests"] if each.get("platform", {}).get("architecture") == own]
            document = self.document((fitting or document["manifests"])[0]["digest"])
        config = self.document(document["config"]["digest"])
        return list(map(str, config.get("config", {}).get("Env") or ()))
