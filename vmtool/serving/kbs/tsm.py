"""Reports of the kernel's Trusted Security Module interface: Linux 6.7, Documentation/ABI/testing/configfs-tsm."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.snp_json import snp_evidence

REPORTS = Path("/sys/kernel/config/tsm/report")
INBLOB = 64
MOST = 1 << 20


def _tdx(quote: bytes, more: bytes) -> dict[str, Any]:
    return {"cc_eventlog": None, "quote": base64.b64encode(quote).decode()}


def _cca(token: bytes, more: bytes) -> dict[str, Any]:
    return {"token": list(token)}


# The kernel's name of a provider -> the protocol's name of the TEE, and its evidence's form.
PROVIDERS: Mapping[str, tuple[str, Callable[[bytes, bytes], dict[str, Any]]]] = {
    "sev_guest": ("snp", snp_evidence), "tdx_guest": ("tdx", _tdx), "arm_cca_guest": ("cca", _cca)}


@dataclass(frozen=True)
class TsmReports:
    """The interface, below its directory."""

    directory: Path = REPORTS

    def tee(self) -> str:
        """Of this guest; empty when the kernel has no such interface, or knows no TEE."""
        try:
            with self._report() as report:
                return PROVIDERS[_text(report / "provider")][0]
        except (OSError, KeyError):
            return ""

    def evidence(self, digest: bytes) -> dict[str, Any]:
        """Evidence that vouches for the digest.

        Raises:
            KeyNotReleased: the kernel gives none.
        """
        try:
            with self._report() as report:
                form = PROVIDERS[_text(report / "provider")][1]
                before = int(_text(report / "generation"))
                (report / "inblob").write_bytes(digest.ljust(INBLOB, b"\0"))
                found = _bytes(report / "outblob"), _optional(report / "auxblob")
                if int(_text(report / "generation")) != before + 1:
                    raise KeyNotReleased("evidence", f"{self.directory}: somebody else changed the report's request")
        except (OSError, KeyError, ValueError) as error:
            raise KeyNotReleased("evidence", f"{self.directory}: {error}") from None
        return form(*found)

    @contextlib.contextmanager
    def _report(self) -> Iterator[Path]:
        """A report of our own: a directory that the kernel fills."""
        report = self.directory / f"vmtool-{os.urandom(8).hex()}"
        report.mkdir()
        try:
            yield report
        finally:
            with contextlib.suppress(OSError):
                report.rmdir()


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST)


def _text(path: Path) -> str:
    return _bytes(path).decode().strip()


def _optional(path: Path) -> bytes:
    try:
        return _bytes(path)
    except OSError:
        return b""
