"""Reference values: what good evidence must show. A file that a person writes, or `vmtool attest reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from vmtool.errors import Refused
from vmtool.schema import Strict, defaults
from vmtool.tee.snp import SNP
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import VIRTCCA


def _parse_hex(value: object) -> object:
    if not isinstance(value, str):
        return value
    if len(value) % 2 or not value or any(digit not in "0123456789abcdef" for digit in value):
        raise ValueError("must be lower-case hexadecimal digits, in quotes")
    return bytes.fromhex(value)


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Hex = Annotated[bytes, BeforeValidator(_parse_hex), PlainSerializer(lambda value: value.hex())]
Hexes = Annotated[tuple[Hex, ...], BeforeValidator(_as_tuple)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
SnpPart = Literal["fmc", "bootloader", "tee", "snp", "microcode"]
MOST_DEVICES = 64
Version = Annotated[int, Field(ge=0, le=255)]


class SnpReference(Strict):
    """Of an SEV-SNP report.

    Args:
        measurement: launch digests of which one must be shown.
        product: generation of processors, such as Milan.
    """

    measurement: Hexes = ()
    host_data: Hex | None = None
    min_tcb: dict[SnpPart, Version] = Field(default={})
    max_vmpl: Annotated[int, Field(ge=0, le=3)] = 0
    allow_smt: bool = True
    product: str = ""


class CcaReference(Strict):
    """Of a token of Arm CCA or virtCCA.

    Args:
        rim: initial measurements of which one must be shown; rem are the four extended ones.
        personalization: value that the host gave the guest.
        implementation: id of the platform's implementation.
        software: measurements of the platform's firmware; with any, every component must be among them.
    """

    rim: Hexes = ()
    rem: Hexes = ()
    personalization: Hex | None = None
    implementation: Hex | None = None
    software: Hexes = ()


TcbStatus = Literal["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
                    "OutOfDate", "OutOfDateConfigurationNeeded"]


class TdxReference(Strict):
    """Of a TDX quote: of each measurement one must be shown.

    Args:
        tcb_status: of the platform's firmware that are accepted.
        min_evaluation: least number of Intel's evaluation in the collateral.
    """

    mrtd: Hexes = ()
    rtmr0: Hexes = ()
    rtmr1: Hexes = ()
    rtmr2: Hexes = ()
    rtmr3: Hexes = ()
    mrseam: Hexes = ()
    mrconfigid: Hex | None = None
    mrowner: Hex | None = None
    tcb_status: tuple[TcbStatus, ...] = ("UpToDate",)
    min_evaluation: int | None = None


class NvidiaReference(Strict):
    """Of NVIDIA's devices: versions, of which each must show one, and whether protected PCIe must be on.

    Args:
        count: how many GPUs must be shown, so that none is left out.
    """

    count: Annotated[int, Field(ge=1, le=MOST_DEVICES)] | None = None
    driver: Texts = ()
    vbios: Texts = ()
    protected_pcie: bool | None = None


Bank = Literal["sha256", "sha384", "sha512"]
Register = Annotated[int, Field(ge=0, le=23)]


class TpmReference(Strict):
    """Of a TPM's quote.

    Args:
        keys: names of attestation keys that are known to be of a TPM.
        pcrs: values by bank and register, of which one must be shown.
    """

    keys: Hexes = ()
    pcrs: dict[Bank, dict[Register, Hexes]] = Field(default={})


class LaunchReference(Strict):
    """What the values were computed of, by `vmtool attest reference`; no evidence is compared with it.

    Args:
        firmware, kernel, initrd: SHA-256 of the files; image: digest of the workload's container image.
        root_hashes: dm-verity's, by the disk's name.
    """

    firmware: Hex | None = None
    kernel: Hex | None = None
    initrd: Hex | None = None
    cmdline: str = ""
    image: str = ""
    root_hashes: dict[str, Hex] = Field(default={})


class Reference(Strict):
    """The file."""

    api_version: Literal["vmtool/v1"] = Field(default="vmtool/v1", alias="apiVersion")
    kind: Literal["Reference"] = "Reference"
    snp: SnpReference = defaults(SnpReference)
    tdx: TdxReference = defaults(TdxReference)
    cca: CcaReference = defaults(CcaReference)
    virtcca: CcaReference = defaults(CcaReference)
    nvidia: NvidiaReference = defaults(NvidiaReference)
    tpm: TpmReference = defaults(TpmReference)
    launch: LaunchReference = defaults(LaunchReference)


TPM = "tpm"
# What must be given of each kind, or any guest with such a processor or firmware would pass.
MEASURED = {SNP.name: ("measurement",), TDX.name: ("mrtd", "rtmr1", "rtmr2"), "cca": ("rim",), VIRTCCA.name: ("rim",),
            TPM: ("pcrs",)}
# Kinds of evidence that say who can read the guest's memory; a TPM says only what was booted.
TEES = frozenset(MEASURED) - {TPM}


def sections(reference: Reference) -> frozenset[str]:
    """The kinds of evidence that the file has values for."""
    return frozenset(reference.model_fields_set - {"api_version", "kind", "launch"})


NO_REFERENCE = defaults(Reference)


def read_reference(path: Path) -> Reference:
    """Read reference values.

    Raises:
        Refused: every mistake at once, with its place.
    """
    from vmtool import documents  # YAML is slow to import, and most evidence comes without such a file

    document = documents.read(path)
    problems = {place: str(problem) for place, problem in document.problems.items()}
    try:
        found = Reference.model_validate(document.value)
    except ValidationError as error:
        problems = {tuple(each["loc"]): each["msg"].removeprefix("Value error, ")
                    for each in error.errors(include_url=False)} | problems
    if problems:
        raise Refused(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}",
                      details=[document.line(place, problem) for place, problem in problems.items()])
    return found
