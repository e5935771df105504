"""The guest's kernel command line: the shipped words, those of the TEE, and the spec's last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.kata.base import MIB
from vmtool.tee.table import tee_of

if TYPE_CHECKING:
    from vmtool.kata.request import KataRequest

SLAB = 2048
# Words that a kernel takes several times, each for itself.
REPEATED = ("pci", "console", "earlycon", "systemd.mask", "module_blacklist", "modprobe.blacklist", "dm-mod.create",
            "ignore_loglevel", "memmap", "hugepages", "hugepagesz", "cma")


def change_kernel_params(request: KataRequest, shipped: str) -> tuple[str | None, str]:
    """The new words and why; None where the shipped ones stay. Their order is kept, since it is measured."""
    words, own, reasons = shipped.split(), request.kata.kernel_params.split(), []
    for word, why in _tee_words(request):
        if word not in words and _name(word) not in map(_name, own):
            words = [*_without(words, [word]), word]
            reasons.append(why)
    if own:
        words = [*_without(words, own), *own]
        reasons.append("the spec's words, last")
    return (" ".join(words) if reasons else None), "; ".join(reasons)


def _tee_words(request: KataRequest) -> list[tuple[str, str]]:
    """What the guest's kernel takes as parameters; CC-0.8.0's patch has it built in."""
    known = tee_of(request.tee)
    if not known or not known.kata.guest_word or request.release.root == "vda":
        return []
    return [(known.kata.guest_word, f"{request.tee} needs it"),
            (f"swiotlb={swiotlb_slabs(request.memory)},force", "bounce buffers for this memory, in slabs of 2 KiB")]


def _without(words: list[str], others: list[str]) -> list[str]:
    """Without those that are repeated, or that others of the same name replace."""
    names = {_name(word) for word in others} - set(REPEATED)
    return [word for word in words if word not in others and _name(word) not in names]


def _name(word: str) -> str:
    return word.partition("=")[0]


def swiotlb_slabs(memory: int) -> int:
    """Slabs of 2 KiB: 1/64 of the memory, at least the guide's 256 MiB and at most 1 GiB, rounded up to a power of two.

    Too few stall large guests; they are taken from ordinary memory.
    """
    wanted = min(max(memory // 64, 256), 1024) * MIB // SLAB
    return 1 << (wanted - 1).bit_length()
