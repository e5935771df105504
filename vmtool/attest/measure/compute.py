"""From a guest to the values that its evidence must show; what cannot be computed is named, with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vmtool.attest.measure.guest import MeasuredGuest, NotComputed, content
from vmtool.attest.measure.init_data import init_data_value
from vmtool.attest.measure.launch_digest import launch_digest
from vmtool.attest.measure.mrtd import compute_mrtd
from vmtool.attest.measure.software_tpm import BANK, STUB, registers
from vmtool.attest.measure.trust_domain import rtmr1, rtmr2
from vmtool.attest.measure.virtcca_guest import virtcca_rim
from vmtool.attest.reference import MEASURED
from vmtool.frozen import dataclass
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import VIRTCCA

# Keys of the file from its section on, and what computes the value.
Value = tuple[tuple[str | int, ...], Callable[[], Any]]
# Without these values the others of their section say nothing of what was booted, and none is given.
NEEDED = {SNP.name: MEASURED[SNP.name], TDX.name: MEASURED[TDX.name], "tpm": (f"pcrs.{BANK}.{STUB}",)}


@dataclass(frozen=True)
class Computed:
    """What is known of a launch before it starts.

    Args:
        values: section -> key -> value, as the file of reference values has them.
        missing: "section.key" -> why it was not computed.
    """

    values: Mapping[str, Mapping[str, Any]]
    missing: Mapping[str, str]


def compute(guest: MeasuredGuest) -> Computed:
    """Every value, each by itself: what is missing for one leaves the others."""
    values: dict[Any, Any] = {}
    missing: dict[str, str] = {}
    for keys, make in (*_launch(guest), *_evidence(guest)):
        try:
            found = make()
        except NotComputed as reason:
            missing[".".join(map(str, keys))] = str(reason)
            continue
        table = values
        for key in keys[:-1]:
            table = table.setdefault(key, {})
        table[keys[-1]] = found
    for section in [name for name in values if any(f"{name}.{key}" in missing for key in NEEDED.get(name, ()))]:
        # A file with the rest alone would let every guest pass.
        del values[section]
    return Computed(values, missing)


def _launch(guest: MeasuredGuest) -> Iterator[Value]:
    """What the values are computed of; verifiers compare none of it."""
    for key, path in (("firmware", guest.firmware), ("kernel", guest.kernel), ("initrd", guest.initrd)):
        if path:
            yield ("launch", key), partial(_digest, path, key)
    if guest.kernel:
        yield ("launch", "cmdline"), guest.known_cmdline
    if guest.image:
        yield ("launch", "image"), lambda: guest.image
    if guest.root_hashes:
        yield ("launch", "root_hashes"), lambda: dict(guest.root_hashes)


def _digest(path: Path, what: str) -> str:
    return hashlib.sha256(content(path, what)).hexdigest()


def _evidence(guest: MeasuredGuest) -> Iterator[Value]:
    if guest.tee == SNP.name:
        yield (SNP.name, "measurement"), lambda: launch_digest(guest).hex()
        yield (SNP.name, "host_data"), init_data_value(guest.init_data, SNP.name).hex
    if guest.tee == TDX.name:
        yield from _tdx(guest)
    if guest.tee == VIRTCCA.name:
        yield (VIRTCCA.name, "rim"), lambda: virtcca_rim(guest)
    if guest.tpm:
        yield from ((("tpm", "pcrs", BANK, number), make) for number, make in registers(guest))
    if guest.tee == NONE and not guest.tpm:
        yield ("evidence",), lambda: _not("neither TEE nor TPM: nothing of this guest is measured, so no evidence "
                                          "can be compared")


def _tdx(guest: MeasuredGuest) -> Iterator[Value]:
    yield (TDX.name, "mrtd"), lambda: compute_mrtd(content(guest.firmware, "firmware")).hex()
    yield (TDX.name, "mrconfigid"), init_data_value(guest.init_data, TDX.name).hex
    yield (TDX.name, "mrowner"), bytes(48).hex
    yield (TDX.name, "rtmr0"), lambda: _not("QEMU's tables of the machine are measured into it, which differ with each "
                                            "version of QEMU")
    yield (TDX.name, "rtmr1"), lambda: rtmr1(guest)
    yield (TDX.name, "rtmr2"), lambda: rtmr2(guest)
    yield (TDX.name, "rtmr3"), lambda: _not("programs in the guest extend it, not its boot")


def _not(reason: str) -> Any:
    raise NotComputed(reason)
