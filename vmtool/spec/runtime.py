"""What the user wants: runtime.yaml as frozen models. `vmtool.spec.load` reads the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from vmtool.paths import NAME
from vmtool.schema import Strict, defaults
from vmtool.serving.hardening import PROFILES, Profile
from vmtool.serving.vllm_arguments import Argument
from vmtool.serving.vllm_options import table
from vmtool.spec.encryption import encryption_problems, load_format
from vmtool.spec.handler import Runtime
from vmtool.spec.metrics import MetricsSpec
from vmtool.spec.model import Model
from vmtool.spec.network import NetworkSpec
from vmtool.spec.published_port import Publish
from vmtool.spec.readiness import Canary, Timeouts
from vmtool.spec.resources import Resources
from vmtool.spec.restart import Restart
from vmtool.spec.tls import TlsSpec
from vmtool.spec.vllm import Vllm, located
from vmtool.spec.vllm_powers import power_problems

# Where Prometheus exporters of this kind listen by custom.
MANAGE = 9464


class Hardening(Strict):
    """A named set of restrictions.

    Args:
        profile: strict, which default is another name of, means a read-only root, no capability, seccomp, no new
            privileges, not root, and memory of its own under /tmp and /dev/shm; ipc-host and private-shm are those of
            cryptotensors' run guide; e.g. `private-shm`
    """

    profile: Literal["default", "strict", "ipc-host", "private-shm"] = "strict"

    @property
    def chosen(self) -> Profile:
        return PROFILES["strict" if self.profile == "default" else self.profile]


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
        metrics: who may read the metrics.
        tls: how the endpoint is encrypted; plain HTTP when left out.
        restart: when a server that has died is started again.
        strict: `vmtool watch` ends the instance when what was proven at its start is so no more; e.g. `true`
    """

    runtime: Runtime = defaults(Runtime)
    allow_unconfidential: bool = False
    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/:@-]{0,254}$")] = "vmtool/vllm:latest"
    model: Model
    vllm: Vllm = defaults(Vllm)
    resources: Resources = defaults(Resources)
    network: NetworkSpec = defaults(NetworkSpec)
    hardening: Hardening = defaults(Hardening)
    canary: Canary | None = None
    timeouts: Timeouts = defaults(Timeouts)
    scaling: Scaling | None = None
    metrics: MetricsSpec = defaults(MetricsSpec)
    tls: TlsSpec = defaults(TlsSpec)
    restart: Restart = defaults(Restart)
    strict: bool = False

    @property
    def manage_port(self) -> int:
        """The container's port for the host alone, and for scrapers."""
        ports = self.network.ports
        return MANAGE + (bool(ports) and ports[0].container_port == MANAGE)

    @property
    def published(self) -> tuple[Publish, ...]:
        """All ports that are published: the endpoint's, and the metrics'."""
        metrics = self.metrics.port(self.manage_port)
        return (*self.network.ports, *([metrics] if metrics else []))

    @property
    def server_arguments(self) -> tuple[Argument, ...]:
        """Everything that vLLM is started with beyond what the entrypoint itself decides."""
        code = (Argument(table().options["trust-remote-code"], True, ("model", "trust_remote_code")),)
        encrypted = self.model.encryption and self.model.engine == "vllm" and not self.vllm.gives("load-format")
        return (*self.vllm.started_with, *(code if self.model.trust_remote_code else ()),
                *([load_format()] if encrypted else ()))

    @model_validator(mode="after")
    def _granted(self) -> Body:
        """Whatever an argument or a variable can do beyond serving has a key of the spec that grants it."""
        if problems := list(power_problems(
                self.vllm, remote_code=self.model.trust_remote_code, fetched=self.model.source == "huggingface",
                tee=self.runtime.tee)):
            raise located(problems)
        if self.model.encryption and (problems := list(encryption_problems(
                self.vllm, remote_code=self.model.trust_remote_code))):
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

    @property
    def secret_files(self) -> frozenset[str]:
        """The files that it names whose content nobody else may see."""
        body, encryption = self.spec, self.spec.model.encryption
        named = (body.vllm.api_key_file, body.tls.key, encryption.key.file if encryption else None)
        return frozenset(str(path) for path in named if path)
