"""configfs-tsm, the kernel's one interface for all TEEs since Linux 6.7 (Documentation/ABI/testing/configfs-tsm)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from vmtool.serving.evidence.binding import report_data
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, NotCollected

ROOT = "/sys/kernel/config/tsm/report"
ENTRY = f"{ROOT}/vmtool"
# What a provider calls itself -> the kind of its report.
PROVIDERS = {"sev_guest": "snp", "tdx_guest": "tdx", "arm_cca_guest": "cca"}
# mkdir without a provider: tsm_report_make_item() answers so.
NO_PROVIDER = errno.ENXIO


def kind_of(guest: Guest) -> str:
    """The kind of the reports that this kernel makes; empty when it makes none, or of an unknown kind."""
    try:
        with _request(guest):
            return PROVIDERS.get(_provider(guest), "")
    except OSError:
        return ""


def collect(guest: Guest, bound: bytes) -> Collected | None:
    """A report over the data, at most 64 bytes; None where no provider is registered.

    Raises:
        NotCollected: the provider is unknown, or another request came in between. OSError: the kernel refuses.
    """
    try:
        with _request(guest):
            return _report(guest, bound)
    except OSError as error:
        if error.errno == NO_PROVIDER:
            return None
        raise


def _report(guest: Guest, bound: bytes) -> Collected:
    provider = _provider(guest)
    if provider not in PROVIDERS:
        raise NotCollected(f"configfs-tsm has the provider {provider[:40]!r}, which is unknown")
    before = _generation(guest)
    guest.write(f"{ENTRY}/inblob", report_data(bound))
    report, certificates = guest.read(f"{ENTRY}/outblob"), _auxiliary(guest)
    if _generation(guest) != before + 1:
        raise NotCollected("configfs-tsm: somebody else wrote to the request")
    return Collected(PROVIDERS[provider], report, certificates)


@contextlib.contextmanager
def _request(guest: Guest) -> Iterator[None]:
    """A request of our own; one that a killed process has left is replaced."""
    try:
        guest.make_dir(ENTRY)
    except FileExistsError:
        guest.remove_dir(ENTRY)
        guest.make_dir(ENTRY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            guest.remove_dir(ENTRY)


def _provider(guest: Guest) -> str:
    return guest.read(f"{ENTRY}/provider").decode("ascii", "replace").strip()


def _generation(guest: Guest) -> int:
    return int(guest.read(f"{ENTRY}/generation"))


def _auxiliary(guest: Guest) -> bytes:
    """The certificates that the host gives along; TDX has none, and a host need not."""
    try:
        return guest.read(f"{ENTRY}/auxblob")
    except OSError:
        return b""
