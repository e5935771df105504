"""What of a guest of Kata's is measured, as its configuration has it."""

from __future__ import annotations

from pathlib import Path

from vmtool.attest.measure.guest import MeasuredGuest, NotComputed
from vmtool.attest.measure.launch_digest import MODELS
from vmtool.kata.base import QEMU
from vmtool.kata.guest_cmdline import guest_cmdline
from vmtool.kata.render import Rendering
from vmtool.kata.request import KataRequest
from vmtool.spec.verity_params import parse_verity
from vmtool.tee.snp import SNP

# What the Go runtime gives every SNP guest (qemu_amd64.go, cpuModel).
SNP_MODEL = "EPYC-v4"


def measured_guest(request: KataRequest, made: Rendering, image: str, init_data: str = "") -> MeasuredGuest:
    """The guest that the shim would start.

    Args:
        image: digest of the workload's; init_data: the text that it is made with.
    """
    qemu = made.values[QEMU]
    cmdline, unknown = None, ""
    try:
        cmdline = guest_cmdline(request.release, made.values)
    except NotComputed as reason:
        unknown = str(reason)

    def file(key: str) -> Path | None:
        return Path(path) if (path := str(qemu.get(key) or "")) else None

    root_hash = parse_verity(str(qemu.get("kernel_verity_params") or "")).get("root_hash", "")
    return MeasuredGuest(
        tee=request.tee, architecture=request.arch, firmware=file("firmware"), kernel=file("kernel"),
        initrd=file("initrd"), cmdline=cmdline, unknown=unknown, vcpus=request.vcpus, memory=request.memory << 20,
        machine=str(qemu.get("machine_type") or ""), signature=MODELS[SNP_MODEL] if request.tee == SNP.name else None,
        image=image, root_hashes={"root": root_hash} if root_hash else {}, init_data=init_data)
