"""RIM of a virtCCA guest: what openEuler's QEMU puts into its memory before it starts (hw/arm/boot.c), as virtCCA's own
tool of reference values measures it (virtCCA SDK, attestation/rim_ref)."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.attest.measure.device_tree import DeviceTree, parse_tree
from vmtool.attest.measure.guest import MIB, MeasuredGuest, NotComputed, content
from vmtool.attest.measure.realm import PAGE, Blob, initial_measurement
from vmtool.tee.virtcca import PMU_COUNTERS, SVE_BITS

# Where memory begins, and in it the code that starts the kernel; the kernel; and the initrd, with the tree after it.
MEMORY = 1 << 30
KERNEL, INITRD = MEMORY + 2 * MIB, MEMORY + 128 * MIB
LEAST_MEMORY = 256 * MIB
BLOCK = 2 * MIB
# Load the tree's address into x0 and zeros into x1 to x3, and branch to the kernel: both addresses follow.
STARTER = (0x580000c0, 0xaa1f03e1, 0xaa1f03e2, 0xaa1f03e3, 0x58000084, 0xd61f0080)
# An arm64 kernel's header (Linux, Documentation/arch/arm64/booting.rst): where it wants to be, its size, and its magic.
TEXT_OFFSET, IMAGE_SIZE, MAGIC_AT, MAGIC = 8, 16, 56, b"ARM\x64"


def virtcca_rim(guest: MeasuredGuest) -> str:
    """The measurement.

    Raises:
        NotComputed: the device tree is not known, or is another machine's, or the kernel is of no known form.
    """
    blobs = tuple(_blobs(guest))
    return initial_measurement(SVE_BITS, PMU_COUNTERS, blobs, guest.vcpus, MEMORY).hex()


def _blobs(guest: MeasuredGuest) -> Iterator[Blob]:
    cmdline, kernel, initrd = guest.known_cmdline(), guest.known_kernel(), guest.known_initrd()
    if guest.given_memory < LEAST_MEMORY:
        raise NotComputed("with less than 256 MiB of memory QEMU places the initrd elsewhere")
    tree = _tree(guest, cmdline, 0 if initrd is None else len(initrd))
    place = INITRD if initrd is None else INITRD + _padded(len(initrd))
    starter = b"".join(word.to_bytes(4, "little") for word in STARTER)
    yield Blob(MEMORY, starter + place.to_bytes(8, "little") + KERNEL.to_bytes(8, "little"), BLOCK)
    yield Blob(KERNEL, kernel, _kernel_size(kernel))
    if initrd is not None:
        yield Blob(INITRD, initrd, _padded(len(initrd)))
    yield Blob(place, tree, _padded(len(tree)))


def _padded(size: int) -> int:
    """Whole blocks; one more where it fills its last one."""
    return (size // BLOCK + 1) * BLOCK


def _kernel_size(kernel: bytes) -> int:
    """Of the kernel in memory: its header says it."""
    if kernel[MAGIC_AT:MAGIC_AT + len(MAGIC)] != MAGIC:
        raise NotComputed("the kernel is no Image of arm64 without compression")
    offset, size = (int.from_bytes(kernel[at:at + 8], "little") for at in (TEXT_OFFSET, IMAGE_SIZE))
    if offset or not len(kernel) <= size <= INITRD - KERNEL:
        raise NotComputed("the kernel is older than Linux 5.10, or too large for its place before the initrd")
    return -(-size // PAGE) * PAGE


def _tree(guest: MeasuredGuest, cmdline: str, initrd: int) -> bytes:
    """The tree that QEMU makes for this guest: what was dumped, with the guest's own command line and initrd."""
    if guest.device_tree is None:
        raise NotComputed("the device tree that openEuler's QEMU makes for the guest is measured too, and that QEMU "
                          "alone knows it: dump it once and name it (spec.runtime.libvirt.device_tree)")
    tree = parse_tree(content(guest.device_tree, "device tree"))
    _require_same_machine(tree, guest)
    tree = tree.with_value("/chosen", "bootargs", cmdline.encode() + b"\0")
    names = [found.name for found in tree.properties if found.node == "/chosen"]
    if ("linux,initrd-end" in names) != bool(initrd):
        raise NotComputed("the device tree is of a guest with an initrd, or without one, unlike this one")
    if initrd:
        width = len(tree.value("/chosen", "linux,initrd-end"))
        if width not in (4, 8):
            raise NotComputed(f"the device tree has an address of {width} bytes")
        tree = tree.with_value("/chosen", "linux,initrd-end", (INITRD + initrd).to_bytes(width, "big"))
    return tree.octets()


def _require_same_machine(tree: DeviceTree, guest: MeasuredGuest) -> None:
    kinds: dict[bytes, list[str]] = {}
    for found in tree.properties:
        if found.name == "device_type":
            kinds.setdefault(found.value, []).append(found.node)
    vcpus = len(kinds.get(b"cpu\0", ()))
    # An address and a size, of 64 bits each.
    memory = sum(int.from_bytes(tree.value(node, "reg")[8:16], "big") for node in kinds.get(b"memory\0", ()))
    if (vcpus, memory) != (guest.vcpus, guest.given_memory):
        raise NotComputed(f"the device tree is of a machine with {vcpus} vCPUs and {memory // MIB} MiB, this guest has "
                          f"{guest.vcpus} and {guest.given_memory // MIB}: dump its own")
