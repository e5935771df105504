"""The launch digest of an SEV-SNP guest (AMD 56860, SNP_LAUNCH_UPDATE), by sev-snp-measure."""

from __future__ import annotations

import importlib.util

from vmtool.attest.measure.guest import MeasuredGuest, NotComputed, Signature, content
from vmtool.errors import ProgramMissing
from vmtool.extras import adding

PACKAGE = "sevsnpmeasure"
# SEV_FEATURES of the VMSA that KVM and QEMU set: SNPActive, and nothing else.
FEATURES = 0x1
MODELS: dict[str, Signature] = {"EPYC-v4": (23, 1, 2)}


def require_package() -> None:
    """Without its library there is no digest.

    Raises:
        ProgramMissing: it is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ProgramMissing("computing the launch digest of SEV-SNP needs the Python package sev-snp-measure",
                             hint=adding("reference"))


def launch_digest(guest: MeasuredGuest) -> bytes:
    """The digest. QEMU puts the hashes of kernel, initrd and command line into a page of the firmware
    (kernel-hashes=on), and starts each vCPU from a page of registers: all of that is measured.

    Raises:
        NotComputed: something of it is not known, or the firmware has no place for the hashes.
    """
    require_package()
    from sevsnpmeasure.guest import snp_calc_launch_digest
    from sevsnpmeasure.vcpu_types import cpu_sig

    if guest.signature is None:
        raise NotComputed("family, model and stepping of its vCPUs are those of the SNP host, which this is not")
    for path, what in ((guest.firmware, "firmware"), (guest.kernel, "kernel"), (guest.initrd, "initrd")):
        if path or what == "firmware":
            content(path, what)
    cmdline = guest.known_cmdline() if guest.kernel else None
    try:
        found: bytes = snp_calc_launch_digest(
            guest.vcpus, cpu_sig(*guest.signature), str(guest.firmware), _text(guest.kernel), _text(guest.initrd),
            cmdline, guest_features=FEATURES, ovmf_hash_str="")
    except Exception as error:  # what the library raises for a firmware that it cannot read is of many kinds
        raise NotComputed(f"{guest.firmware}: {error or type(error).__name__}") from error
    return found


def _text(path: object) -> str | None:
    return None if path is None else str(path)
