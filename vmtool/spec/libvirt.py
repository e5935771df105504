"""`spec.runtime.libvirt`: what a person may want of a domain beyond the rest of the spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vmtool.schema import HostPath

Word = Annotated[str, Field(pattern=r"^[^\x00-\x20\x7f]+$", max_length=4096)]


class Libvirt(BaseModel):
    """libvirt's part of a spec.

    Args:
        uri: which libvirt is asked. "auto": the system's where it is, else one of vmtool's own inside its process;
            e.g. `system`
        image: the guest image, of `vmtool rootfs build`; e.g. `rootfs.img`
        kernel: of the guest; IMAGE.vmlinuz when left out, which `rootfs build` writes; e.g. `rootfs.img.vmlinuz`
        boot: "kernel": QEMU loads the kernel and vmtool's initramfs itself; "firmware": the image's own boot loader.
            The latter is rendered only: a guest that comes up so has no agent of vmtool's, and is not launched;
            e.g. `kernel`
        firmware: OVMF or AAVMF, for boot "firmware"; with a TPM; and for SNP and TDX, which measure it;
            e.g. `/usr/share/OVMF/OVMF.fd`
        kernel_params: further words of the guest's kernel command line; they come last, in this order; e.g. `[quiet]`
        verity: whether the guest holds each disk against its root hash; with a TEE when left out; e.g. `true`
        tpm: whether the guest has a software TPM 2.0 (swtpm), into which its firmware measures what it starts; the host
            runs it, so it proves nothing against the host; e.g. `true`
        device_tree: what QEMU dumps for a guest like this one (-machine dumpdtb=FILE); virtCCA measures it, so without
            one no RIM is known before the start; e.g. `/etc/vmtool/guest.dtb`
        machine: QEMU's machine type; q35, virt, or for virtCCA virt-8.2 when left out; e.g. `q35`
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    uri: Literal["auto", "system", "session", "embed"] = "auto"
    image: HostPath | None = None
    kernel: HostPath | None = None
    boot: Literal["kernel", "firmware"] = "kernel"
    firmware: HostPath | None = None
    kernel_params: tuple[Word, ...] = ()
    verity: bool | None = None
    tpm: bool = False
    device_tree: HostPath | None = None
    machine: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] | None = None
