"""How the endpoint is encrypted: `spec.tls`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vmtool.schema import Strict

HOSTNAME = r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$|^[0-9a-fA-F:]{2,39}$"


class TlsSpec(Strict):
    """TLS 1.3 before the endpoint; without it the endpoint speaks plain HTTP.

    Args:
        source: ca takes a certificate of vmtool's own CA, files one of yours; guest has the endpoint make its key at
            each start, which never leaves it; none is plain HTTP; e.g. `ca`
        names: DNS names and addresses by which clients reach it, beside this host's own; with ca; e.g. `["llm.lab"]`
        certificate: PEM file with the certificate and what leads to its CA; with files; e.g. `./llm.pem`
        key: PEM file with its key, without a passphrase; with files; e.g. `./llm.key`
        clients: PEM file with the CA whose certificates clients must have; any client when left out; e.g. `./ca.pem`
    """

    source: Literal["none", "ca", "files", "guest"] = "none"
    names: Annotated[tuple[Annotated[str, Field(pattern=HOSTNAME)], ...], Field(max_length=50)] = ()
    certificate: Path | None = None
    key: Path | None = None
    clients: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> TlsSpec:
        files = self.source == "files"
        if files != bool(self.certificate) or files != bool(self.key):
            raise ValueError("certificate and key go with source: files, both of them")
        if self.names and self.source != "ca":
            raise ValueError("names go with source: ca; a certificate of yours has its own, and one that a guest makes "
                             "is known by its key alone")
        if self.clients and self.source == "none":
            raise ValueError("clients can show a certificate within TLS only: source: ca, files or guest")
        return self

    @property
    def in_guest(self) -> bool:
        """Whether nobody but the endpoint has the key."""
        return self.source == "guest"

    @property
    def on(self) -> bool:
        return self.source != "none"
