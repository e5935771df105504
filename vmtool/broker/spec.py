"""The broker's configuration: which resource is where, and to whom it is released."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vmtool.schema import HostPath, Strict
from vmtool.serving.kbs.attesters import SAMPLE
from vmtool.serving.kbs.resource_name import RESOURCE
from vmtool.spec.tls import TlsSpec

TeeKind = Literal["snp", "tdx", "cca", "virtcca", "tpm", "sample"]
ResourceName = Annotated[str, Field(pattern=f"^{RESOURCE.pattern}$")]
# As in keys (cryptotensors.jwk.KID) and names of models.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@/+=-]{1,128}$")]


class ReleasePolicy(Strict):
    """To whom a resource is released; everything that is named must be proven.

    Args:
        tee: kinds of evidence of which one must be shown; sample proves nothing, and stands alone; e.g. `[snp]`
        reference: file with values that the evidence must show, as `vmtool attest verify --reference` takes it;
            needed for every kind but sample; e.g. `./snp.yaml`
        gpu: evidence of NVIDIA devices must be shown too; what of it is shown is verified in any case
        model: name that the guest's init data must have for the model
        signer: kid that the guest's init data must have for the model's signer
    """

    tee: Annotated[tuple[TeeKind, ...], Field(min_length=1, max_length=5)]
    reference: HostPath | None = None
    gpu: bool = False
    model: Word | None = None
    signer: Word | None = None

    @model_validator(mode="after")
    def _fits(self) -> ReleasePolicy:
        if SAMPLE in self.tee and self.tee != (SAMPLE,):
            raise ValueError("sample proves nothing, so it stands for no TEE: a resource has one or the other")
        if (self.reference is None) != self.is_sample:
            raise ValueError("sample has no values to compare" if self.is_sample else
                             "without a reference any guest on such a machine would get it: reference: FILE")
        if (self.model or self.signer) and "tpm" in self.tee:
            raise ValueError("evidence of a TPM is bound to no init data, so it says nothing of model and signer")
        return self

    @property
    def is_sample(self) -> bool:
        """Whether it asks for no proof at all."""
        return self.tee == (SAMPLE,)


class ResourceSpec(Strict):
    """A resource.

    Args:
        file: whose bytes it is, of mode 0600; read each time; e.g. `./master.jwk`
        policy: to whom it is released
    """

    file: HostPath
    policy: ReleasePolicy


class LimitsSpec(Strict):
    """What peers can hold.

    Args:
        sessions: at once, in all
        session_seconds: how long a guest may take from its challenge to its resource
        requests_per_minute: of one address; IPv6 counts by /64
    """

    sessions: Annotated[int, Field(ge=1, le=10_000)] = 1000
    session_seconds: Annotated[int, Field(ge=5, le=3600)] = 300
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 120


class BrokerSpec(Strict):
    """The file.

    Args:
        api_version: of the file
        kind: of the file
        listen: address and port; beyond this machine only with tls
        tls: the broker's certificate: source files with certificate and key; or ca, a new one of vmtool's own CA at
            each start and each day, for names and the address
        audit: file that gets a line for each decision; it is only ever appended to; e.g. `./audit.jsonl`
        roots: directory with roots of trust; those that come with vmtool when left out
        collateral: certificates, revocation lists, Intel's collateral, NVIDIA's RIMs
        allow_unconfidential: lets policies take the sample attester, which proves nothing
        limits: what peers can hold
        resources: by their names REPOSITORY/TYPE/TAG
    """

    api_version: Literal["vmtool/v1"] = Field(alias="apiVersion")
    kind: Literal["Broker"]
    listen: str = "127.0.0.1:8080"
    tls: TlsSpec = TlsSpec.model_construct()
    audit: HostPath
    roots: HostPath | None = None
    collateral: Annotated[tuple[HostPath, ...], Field(max_length=64)] = ()
    allow_unconfidential: bool = False
    limits: LimitsSpec = LimitsSpec.model_construct()
    resources: Annotated[dict[ResourceName, ResourceSpec], Field(min_length=1, max_length=256)]
