"""A domain as libvirt reads it (libvirt.org, formatdomain): a small type for each element that is used."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path

from vmtool.architecture import AMD64, architecture_of
from vmtool.frozen import dataclass
from vmtool.tee.table import tee_of

# Only a name for what is derived from it: the same instance has the same domain on every host.
_NAMESPACE = uuid.UUID("6c1d4c0e-6f0a-5d3b-9a39-0b1f6d7a2c55")
# Bytes of the kernel's command line that it reads (COMMAND_LINE_SIZE of x86 and arm64, less the last zero); it cuts off
# what follows, without a word.
LONGEST = 2047
# All but what XML 1.0 can hold (its production 2); line breaks and tabs inside of a value would come back as other
# blanks.
_FOREIGN = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Kernel:
    """QEMU loads the kernel itself. With `initrd` None the root file system must be in the kernel's reach."""

    path: Path
    initrd: Path | None
    words: tuple[str, ...]

    @property
    def cmdline(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Disk:
    """A file as a read-only disk, found in the guest by its `serial`.

    Args:
        shared: others use the file too, so libvirt must not give it to QEMU's user.
    """

    path: Path
    serial: str
    shared: bool = True


@dataclass(frozen=True)
class Nic:
    """A network device on a bridge of the host's."""

    bridge: str
    mac: str


@dataclass(frozen=True)
class Port:
    """A virtio-serial port: on the host a Unix socket that QEMU listens on, or a file that it writes."""

    name: str
    socket: Path | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Domain:
    """A domain.

    Args:
        emulator: QEMU's file.
        accelerated: by KVM; else it is emulated.
        memory: bytes.
        hostdevs: PCI addresses that vmtool has bound to vfio-pci.
        iommufd: they go to the guest by iommufd and not by legacy VFIO.
        tee: none, virtcca, snp or tdx.
        kernel: None when the firmware boots what the first disk holds.
        console: file that receives what the guest writes to its first serial port.
        tpm: model of a software TPM; empty for none.
    """

    name: str
    title: str
    architecture: str
    machine: str
    emulator: str
    accelerated: bool
    memory: int
    vcpus: int
    tee: str
    kernel: Kernel | None
    firmware: Path | None
    disks: tuple[Disk, ...]
    nic: Nic | None
    console: Path
    ports: tuple[Port, ...] = ()
    hostdevs: tuple[str, ...] = ()
    iommufd: bool = False
    tpm: str = ""

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(_NAMESPACE, self.name))


def foreign(text: str) -> str:
    """The first character of a text that a domain's description cannot hold; empty when there is none."""
    found = _FOREIGN.search(text)
    return found[0] if found else ""


def mac_of(name: str) -> str:
    """A hardware address of a domain's own, in QEMU's range of locally administered ones."""
    return "52:54:00:" + ":".join(hashlib.sha256(name.encode()).hexdigest()[start:start + 2] for start in (0, 2, 4))


def machine_of(architecture: str, tee: str, wanted: str | None) -> str:
    """The machine type."""
    known = tee_of(tee)
    return wanted or (known.libvirt.machine if known else "") or architecture_of(architecture).board


def tpm_of(architecture: str) -> str:
    """The model of TPM that the firmware of this architecture measures into."""
    return "tpm-crb" if architecture == AMD64.machine else "tpm-tis"


def kernel_words(architecture: str, tee: str, target: str, further: tuple[str, ...]) -> tuple[str, ...]:
    """The guest's kernel command line: the same spec gives the same words in the same order, since a TEE measures
    them; what the person adds comes last."""
    console, known = architecture_of(architecture).console, tee_of(tee)
    return (f"console={console}", "panic=-1", "net.ifnames=0", f"systemd.unit={target}",
            *(known.libvirt.kernel_words if known else ()), *further)
