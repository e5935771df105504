"""The runtime.yaml dialect of the vllmd project (vllmd.com/v1alpha1), translated to vmtool's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vmtool.schema import Size, Strict, defaults
from vmtool.spec.model import Model
from vmtool.spec.resources import Accelerators, Resources
from vmtool.spec.runtime import Body, Metadata, Scaling, Spec


class VllmdResources(Strict):
    """Resources in the vllmd dialect."""

    accelerator_memory: Size | None = None
    accelerator_count: Annotated[int, Field(ge=0, le=64)] = 0
    accelerator_type: str | None = None


class VllmdBody(Strict):
    """`spec` in the vllmd dialect."""

    model: Model
    resources: VllmdResources = defaults(VllmdResources)
    scaling: Scaling | None = None


class VllmdSpec(Strict):
    """A runtime.yaml of the vllmd project."""

    model_config = ConfigDict(alias_generator=to_camel)

    api_version: Literal["vllmd.com/v1alpha1"]
    kind: Literal["Runtime"]
    metadata: Metadata
    spec: VllmdBody

    def translated(self) -> Spec:
        """The same request in vmtool's dialect; how to isolate it stays at vmtool's defaults."""
        request = self.spec.resources
        accelerators = Accelerators(count=request.accelerator_count, type=request.accelerator_type,
                                    memory=request.accelerator_memory)
        body = Body(model=self.spec.model, resources=Resources(accelerators=accelerators), scaling=self.spec.scaling)
        return Spec(api_version="vmtool/v1", kind="Runtime", metadata=self.metadata, spec=body)
