"""What a client requires of a server before it speaks to it: a small YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vmtool import documents
from vmtool.attest.reference import MEASURED, NO_REFERENCE, TEES, Reference, sections
from vmtool.errors import Refused
from vmtool.schema import HostPath, Strict
from vmtool.spec.load import validated

NVIDIA = "nvidia"
EXAMPLE = "docs/attestation.md shows whole ones; vmtool connect --make-policy SPEC writes one"


class Policy(Strict):
    """The file. Relative paths in it are relative to its directory.

    Args:
        allow_unconfidential: whether a server without a TEE will do: then nothing is proven but that it has the key of
            its connection; e.g. `true`
        max_age: seconds after which a verification no longer counts; a new one is made before; e.g. `300`
        roots: directory with roots of trust that are trusted instead of vmtool's own; e.g. `./roots`
        collateral: certificates, revocation lists and Intel's collateral; read again for each verification; e.g.
            `[vcek.der]`
        ca: PEM file with the CA of the server's certificate, which must then be valid for its name as well; e.g.
            `./vmtool-ca.pem`
        reference: the values that its evidence must show, as in a file of reference values; of one TEE, or of a TPM
            with allow_unconfidential, since a TPM keeps no memory from the host; `nvidia` beside a TEE requires GPUs,
            whose RIMs are then in the collateral
    """

    api_version: Literal["vmtool/v1"] = Field(alias="apiVersion")
    kind: Literal["ConnectPolicy"]
    allow_unconfidential: bool = False
    max_age: Annotated[int, Field(ge=10, le=86_400)] = 300
    roots: HostPath | None = None
    collateral: Annotated[tuple[HostPath, ...], Field(max_length=64)] = ()
    ca: HostPath | None = None
    reference: Reference = NO_REFERENCE

    @model_validator(mode="after")
    def _says_something(self) -> Policy:
        given, tees = sections(self.reference), sections(self.reference) & TEES
        if NVIDIA in given and not tees:
            raise ValueError("reference.nvidia goes beside the values of a TEE: a GPU says nothing of who can read the "
                             "memory of its guest")
        given -= {NVIDIA}
        if len(given) > 1:
            raise ValueError(f"reference has values for {' and '.join(sorted(given))}; a server shows one of them")
        if not self.allow_unconfidential and not tees:
            raise ValueError(f"no values of a TEE (reference.{', reference.'.join(sorted(TEES))}): say what its guest "
                             "must show, or allow_unconfidential: true")
        if self.allow_unconfidential and tees:
            raise ValueError("allow_unconfidential lets every server pass, so the values of a TEE would say nothing: "
                             "leave out one of them")
        for name in given:
            if missing := [key for key in MEASURED[name] if not getattr(getattr(self.reference, name), key)]:
                raise ValueError(f"reference.{name}.{missing[0]} is missing: any guest would pass")
        return self

    @property
    def expects(self) -> str:
        """The kind of evidence that must be shown; empty for none."""
        return next(iter(sections(self.reference) - {NVIDIA}), "")

    @property
    def expects_devices(self) -> bool:
        """Whether GPUs must be shown beside it."""
        return NVIDIA in sections(self.reference)


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        Refused: every mistake at once, with its place.
    """
    document = documents.read(path)
    if not isinstance(document.value, dict):
        raise Refused(f"{path}: not a mapping", hint=EXAMPLE)
    policy = validated(document, Policy)

    def anchor(file: Path) -> Path:
        return path.absolute().parent / file.expanduser()

    return policy.model_copy(update={
        "roots": policy.roots and anchor(policy.roots), "ca": policy.ca and anchor(policy.ca),
        "collateral": tuple(map(anchor, policy.collateral))})
