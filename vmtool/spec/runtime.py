"""What the user wants: runtime.yaml as frozen models. `vmtool.spec.load` reads the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from vmtool.paths import NAME
from vmtool.schema import Size, Strict
from vmtool.serving.vllm_arguments import Argument
from vmtool.serving.vllm_options import table
from vmtool.spec.kata import KataSpec
from vmtool.spec.libvirt import Libvirt
from vmtool.spec.published_port import Publish
from vmtool.spec.restart import Restart
from vmtool.spec.vllm import Digits, Vllm, located
from vmtool.spec.vllm_powers import power_problems
from vmtool.tee.table import NONE, TeeName

LEAST_MEMORY = 64 << 20


class Runtime(Strict):
    """How the workload is isolated.

    Args:
        handler: runc starts a plain container, kata and libvirt a virtual machine; e.g. `kata`
        tee: what keeps the host out of the virtual machine; none needs `allow_unconfidential`; e.g. `snp`
        kata: Kata's settings, with handler kata.
        libvirt: libvirt's settings, with handler libvirt.
    """

    handler: Literal["runc", "kata", "libvirt"] = "kata"
    tee: TeeName = NONE
    kata: KataSpec = KataSpec()
    libvirt: Libvirt = Libvirt()

    @model_validator(mode="after")
    def _tee_needs_a_vm(self) -> Runtime:
        if self.handler == "runc" and self.tee != NONE:
            raise ValueError("runc starts no virtual machine, so it has no TEE: choose handler kata or libvirt")
        if self.handler != "kata" and self.kata != KataSpec():
            raise ValueError(f"kata's settings do nothing with handler {self.handler}")
        if self.handler != "libvirt" and self.libvirt != Libvirt():
            raise ValueError(f"libvirt's settings do nothing with handler {self.handler}")
        return self


class Model(Strict):
    """The model to serve.

    Args:
        name: what clients call it; e.g. `qwen`
        source: "local" takes `path`, "huggingface" takes `repository`; e.g. `local`
        path: the model's directory on this host; e.g. `/models/Qwen1.5-1.8B-Chat`
        repository: owner/name on the hub; e.g. `Qwen/Qwen1.5-1.8B-Chat`
        engine: vLLM, or a small server on transformers for small models where vLLM would take minutes to start;
            e.g. `transformers`
        trust_remote_code: run Python code that the model brings along, never in a TEE; e.g. `true`
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
    source: Literal["local", "huggingface"] = "local"
    path: Path | None = None
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    engine: Literal["vllm", "transformers"] = "vllm"
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        wanted = "path" if self.source == "local" else "repository"
        other = "repository" if self.source == "local" else "path"
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"source {self.source} takes {wanted}, and not {other}")
        return self


class Accelerators(Strict):
    """GPUs to pass on.

    Args:
        count: how many; e.g. `2`
        type: what `vmtool gpu list` calls them; any when left out; e.g. `nvidia-h100`
        memory: what each must have; e.g. `80Gi`
        bdf: their PCI addresses, instead of a count; e.g. `["0000:17:00.0"]`
    """

    count: Annotated[int, Field(ge=0, le=64)] = 0
    type: str | None = None
    memory: Size | None = None
    bdf: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")], ...] = ()


def enough(value: int) -> int:
    """Memory in which a server could start; less would only fail later, in the container runtime.

    Raises:
        ValueError: it is less.
    """
    if value < LEAST_MEMORY:
        raise ValueError(f"{value} bytes: no server starts in less than {LEAST_MEMORY >> 20}Mi")
    return value


class Resources(Strict):
    """What the workload may use.

    Args:
        memory: of the container, or of the whole virtual machine; e.g. `20Gi`
        cpus: a number of processors; a fraction with runc only; e.g. `4`
        accelerators: GPUs to pass on, with kata and libvirt.
    """

    memory: Annotated[Size, AfterValidator(enough)] = 8 << 30
    cpus: Annotated[float, Field(gt=0, le=4096)] = 2.0
    accelerators: Accelerators = Accelerators()


def published(value: str) -> str:
    """A port that can be published.

    Raises:
        ValueError: it is not one.
    """
    Publish.parse(value)
    return value


Port = Annotated[Digits, AfterValidator(published)]


class NetworkSpec(Strict):
    """The container's network; without a name it has one of its own, named like the instance.

    Args:
        name: of a network that instances share; e.g. `lab`
        bridge: the bridge's name, for a network that is made; e.g. `vmt-lab`
        subnet: its addresses; a free one when left out; e.g. `10.203.36.0/24`
        publish: ports of this host that lead to the endpoint, as PORT, HOST:CONTAINER or IP:HOST:CONTAINER; on
            127.0.0.1 without an IP; e.g. `["0.0.0.0:8000:8000"]`
    """

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")] | None = None
    bridge: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,14}$")] | None = None
    subnet: str = "auto"
    publish: tuple[Port, ...] = ()

    @property
    def ports(self) -> tuple[Publish, ...]:
        """The published ports, parsed."""
        return tuple(Publish.parse(item) for item in self.publish)


class Hardening(Strict):
    """A named set of restrictions.

    Args:
        profile: strict means a read-only root, no capability, seccomp, no new privileges, not root; e.g. `strict`
    """

    profile: Literal["strict"] = "strict"


class Canary(Strict):
    """A question with a known answer: /health alone says nothing about garbage.

    Args:
        prompt: the question, asked at temperature 0; e.g. `What is 2+2? Answer with one digit.`
        expect: the answer; e.g. `"4"`
        match: exact, but for blanks around it, or contains; e.g. `contains`
    """

    prompt: Annotated[str, Field(min_length=1, max_length=10_000)]
    expect: Annotated[str, Field(min_length=1, max_length=10_000)]
    match: Literal["exact", "contains"] = "exact"


class Timeouts(Strict):
    """Seconds; what is left out is computed from memory, devices and model size.

    Args:
        boot: until the agent of a libvirt guest answers; e.g. `120`
        start: from then until the server is healthy; e.g. `600`
        canary: for the canary's answer; e.g. `60`
    """

    boot: Annotated[float, Field(gt=0)] | None = None
    start: Annotated[float, Field(gt=0)] | None = None
    canary: Annotated[float, Field(gt=0)] | None = None


class Scaling(Strict):
    """Replicas, for the Kubernetes manifests; one machine runs one.

    Args:
        min_replicas: at least; e.g. `1`
        max_replicas: at most; e.g. `3`
    """

    model_config = ConfigDict(alias_generator=to_camel)

    min_replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: Annotated[int, Field(ge=1)] = 1


class Body(Strict):
    """What is launched.

    Args:
        runtime: how the workload is isolated.
        allow_unconfidential: the only way to a launch without a TEE; e.g. `true`
        image: a container image that containerd has, of `vmtool image build` or `import`; e.g. `vmtool/vllm-cpu:latest`
        model: the model to serve.
        vllm: vLLM's own settings.
        resources: what the workload may use.
        network: where the endpoint is reached.
        hardening: what the container may not do.
        canary: a question with a known answer; a model may bring its own.
        timeouts: seconds, where the computed ones do not fit.
        scaling: replicas, accepted for Kubernetes manifests.
        restart: when a server that has died is started again.
    """

    runtime: Runtime = Runtime()
    allow_unconfidential: bool = False
    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/:@-]{0,254}$")] = "vmtool/vllm:latest"
    model: Model
    vllm: Vllm = Vllm()
    resources: Resources = Resources()
    network: NetworkSpec = NetworkSpec()
    hardening: Hardening = Hardening()
    canary: Canary | None = None
    timeouts: Timeouts = Timeouts()
    scaling: Scaling | None = None
    restart: Restart = Restart()

    @property
    def server_arguments(self) -> tuple[Argument, ...]:
        """Everything that vLLM is started with beyond what the entrypoint itself decides."""
        code = (Argument(table().options["trust-remote-code"], True, ("model", "trust_remote_code")),)
        return (*self.vllm.started_with, *(code if self.model.trust_remote_code else ()))

    @model_validator(mode="after")
    def _granted(self) -> Body:
        """Whatever an argument or a variable can do beyond serving has a key of the spec that grants it."""
        if problems := list(power_problems(
                self.vllm, remote_code=self.model.trust_remote_code, fetched=self.model.source == "huggingface",
                tee=self.runtime.tee)):
            raise located(problems)
        return self


class Metadata(Strict):
    """What the instance is called.

    Args:
        name: 1 to 63 lower-case letters, digits and inner hyphens; e.g. `chat`
    """

    name: str

    @field_validator("name")
    @classmethod
    def _label(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("use 1 to 63 lower-case letters, digits and inner hyphens")
        return name


class Spec(Strict):
    """A whole runtime.yaml.

    Args:
        api_version: the form of the file; e.g. `vmtool/v1`
        kind: what it describes; e.g. `Runtime`
        metadata: what the instance is called.
        spec: what is launched.
    """

    model_config = ConfigDict(alias_generator=to_camel)

    api_version: Literal["vmtool/v1"]
    kind: Literal["Runtime"]
    metadata: Metadata
    spec: Body

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.metadata.name
