"""The attestation report of SEV-SNP (AMD 56860, "SEV Secure Nested Paging Firmware ABI", table 23) as data."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool.attest.cursor import require
from vmtool.frozen import dataclass
from vmtool.serving.kbs.snp_json import NUMBER, SIGNED, SIZE, TCB, TURIN_TCB

VERSIONS = (2, 3, 4, 5)
# Bytes that are used of R and S, each of NUMBER bytes, little-endian.
USED = 48


@dataclass(frozen=True)
class Product:
    """A generation of processors.

    Args:
        name: as in the names of its certificates.
        tcb: the byte of a TCB version that each part of the firmware has.
        chip_id: bytes of the processor's id.
        models: (family, first model, last model) of its processors, combined from base and extended.
    """

    name: str
    tcb: Mapping[str, int]
    chip_id: int
    models: tuple[tuple[int, int, int], ...]


PRODUCTS = (
    Product("Milan", TCB, 64, ((0x19, 0x00, 0x0f),)),
    # Bergamo and Siena are under Genoa's keys.
    Product("Genoa", TCB, 64, ((0x19, 0x10, 0x1f), (0x19, 0xa0, 0xaf))),
    Product("Turin", TURIN_TCB, 8, ((0x1a, 0x00, 0x1f),)),
)


@dataclass(frozen=True)
class Report:
    """The fields that are checked. `signed` are the bytes under the signature, whose numbers are `r` and `s`."""

    version: int
    policy: int
    vmpl: int
    algorithm: int
    key_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    reported_tcb: bytes
    launch_tcb: bytes
    family: int
    model: int
    chip_id: bytes
    signed: bytes
    r: int
    s: int

    @property
    def signing_key(self) -> int:
        """0 for a VCEK, 1 for a VLEK."""
        return self.key_info >> 2 & 7

    @property
    def masked_chip(self) -> bool:
        """Whether the chip's id was kept out of it."""
        return bool(self.key_info & 2)

    def tcb(self, product: Product) -> dict[str, int]:
        """The security versions of the reported firmware."""
        return {part: self.reported_tcb[byte] for part, byte in product.tcb.items()}

    def tcb_at_launch(self, product: Product) -> dict[str, int]:
        """Those of the firmware that launched the guest: the host may have updated it since."""
        return {part: self.launch_tcb[byte] for part, byte in product.tcb.items()}


def parse_report(data: bytes) -> Report:
    """Read a report.

    Raises:
        NotProven: it is none: another size or version, or bytes that must be zero are not.
    """
    require(len(data) == SIZE, f"an SEV-SNP report has {SIZE} bytes, not {len(data)}")

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at:at + size], "little")

    version = number(0, 4)
    require(version in VERSIONS, f"report version {version} is unknown")
    second = SIGNED + NUMBER
    padding = data[SIGNED + USED:second] + data[second + USED:]
    require(not any(padding), "bytes after the numbers of the signature are not zero")
    return Report(
        version, number(8, 8), number(0x30, 4), number(0x34, 4), number(0x48, 4), data[0x50:0x90], data[0x90:0xc0],
        data[0xc0:0xe0], data[0x180:0x188], data[0x1f0:0x1f8], data[0x188], data[0x189], data[0x1a0:0x1e0],
        data[:SIGNED], number(SIGNED, USED), number(second, USED))
