"""How the model is encrypted, and where its key comes from: `spec.model.encryption`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from vmtool.schema import HostPath, Strict
from vmtool.serving.encrypted.vllm_arguments import LOAD_FORMAT, argument_problems, variable_problem
from vmtool.serving.kbs.resource_name import RESOURCE
from vmtool.serving.vllm_arguments import Argument, Mistake
from vmtool.serving.vllm_options import table
from vmtool.spec.vllm import Vllm


class BrokerKey(Strict):
    """A key broker (KBS protocol 0.4.0) that releases the key to evidence of the guest; the guest's own Confidential
    Data Hub is asked first, where there is one.

    Args:
        resource: the key's name there, REPOSITORY/TYPE/TAG; e.g. `demo/llama/key`
        url: the broker's address as the workload reaches it; only the data hub when left out; e.g. `https://kbs:8080`
        ca: PEM file with the only CAs that the broker's certificate may lead to; with url; e.g. `./ca.pem`
    """

    resource: Annotated[str, Field(pattern=f"^{RESOURCE.pattern}$")]
    url: Annotated[str, Field(pattern=r"^https://[A-Za-z0-9.:\[\]-]{1,255}(/[A-Za-z0-9._/-]{0,255})?$")] | None = None
    ca: HostPath | None = None

    @model_validator(mode="after")
    def _fits(self) -> BrokerKey:
        if (self.url is None) != (self.ca is None):
            raise ValueError("url and ca go together: nobody else's certificate is taken")
        return self


class ModelKey(Strict):
    """Where the master key of an encrypted model comes from: a file of this host, or a broker.

    Args:
        file: a file of mode 0600, or a named pipe, with the key as `vmtool key generate` writes it; it is handed to
            the workload once that was verified; e.g. `./master.jwk`
        broker: it is released to the workload, and this host never has it
    """

    file: HostPath | None = None
    broker: BrokerKey | None = None

    @model_validator(mode="after")
    def _fits(self) -> ModelKey:
        if (self.file is None) == (self.broker is None):
            raise ValueError("write file: FILE, or broker: with resource, url and ca; one of the two")
        return self


class Encryption(Strict):
    """The model is encrypted (`vmtool model encrypt`); only what its owner signed is served.

    Args:
        signer: the public part of the owner's signing key (`vmtool key export-public`); e.g. `./signer.pub.jwk`
        key: where the master key comes from.
        manifest: SHA-256 of the model's `vmtool-manifest.json` (`vmtool model inspect` shows it): another model of the
            same owner is refused then, also when it has the same key; e.g.
            `sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef`
    """

    signer: HostPath
    key: ModelKey
    manifest: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")] | None = None

    @property
    def digest(self) -> str:
        """Of the manifest, in hexadecimal alone; empty for any model of the owner's."""
        return (self.manifest or "").removeprefix("sha256:")


def load_format() -> Argument:
    """What vLLM is started with for an encrypted model."""
    return Argument(table().options["load-format"], LOAD_FORMAT, ("model", "encryption"))


def encryption_problems(vllm: Vllm, *, remote_code: bool) -> Iterator[Mistake]:
    """What of the spec does not go with an encrypted model, with its place below `spec`."""
    if remote_code:
        yield Mistake(("model", "trust_remote_code"), "code of the model's own could write it down in clear")
    for mistake in argument_problems(vllm.arguments):
        yield Mistake(("vllm", "args", *mistake.place), mistake.text)
    for mistake in argument_problems([each for each in vllm.started_with if each.place[:1] == ("files",)]):
        yield Mistake(("vllm", *mistake.place), mistake.text)
    for name, value in vllm.env.items():
        if problem := variable_problem(name, value):
            yield Mistake(("vllm", "env", name), problem)
