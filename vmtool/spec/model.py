"""`spec.model`: the model to serve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vmtool.schema import HostPath, Strict
from vmtool.spec.encryption import Encryption


class Model(Strict):
    """The model to serve.

    Args:
        name: what clients call it; e.g. `qwen`
        source: "local" takes `path`, "huggingface" takes `repository`; e.g. `local`
        path: the model's directory on this host; e.g. `/models/Qwen1.5-1.8B-Chat`
        repository: owner/name on the hub; e.g. `Qwen/Qwen1.5-1.8B-Chat`
        engine: vLLM, or a small server on transformers for small models where vLLM would take minutes to start;
            e.g. `transformers`
        encryption: the model is an encrypted one, and this is who signed it and where its key comes from.
        trust_remote_code: run Python code that the model brings along, never in a TEE; e.g. `true`
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
    source: Literal["local", "huggingface"] = "local"
    path: HostPath | None = None
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    engine: Literal["vllm", "transformers"] = "vllm"
    encryption: Encryption | None = None
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        wanted = "path" if self.source == "local" else "repository"
        other = "repository" if self.source == "local" else "path"
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"source {self.source} takes {wanted}, and not {other}")
        if self.encryption and self.source != "local":
            raise ValueError("an encrypted model is served from a directory: source: local, and path")
        return self
