"""The workload's container and what runs in it, the same for every launcher that has containerd start it."""

from __future__ import annotations

import base64
from pathlib import Path

from vmtool import plan as p
from vmtool.access.give import write_access
from vmtool.attest.measure.init_data import ANNOTATION, init_data_annotation
from vmtool.containerd import container as c
from vmtool.containerd.endpoint import awake
from vmtool.containerd.leases import lease_mark
from vmtool.frozen import dataclass
from vmtool.host.event_log import GUEST_LOG
from vmtool.instance.instance import InstanceRecord, Paths
from vmtool.isolation import python_uri
from vmtool.net.network import netns_path
from vmtool.plan import Run
from vmtool.spec.runtime import Body, Hardening
from vmtool.stage.launch import Launch, container_port
from vmtool.tee.table import NONE

HUB = "/models/hub"
# The image keeps vLLM off the network, except for a model that must be fetched.
HUB_ENV = (("HF_HOME", HUB), ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "0"))
# A module's name, since it runs for as long as the container and is never loaded here.
LOG_WRITER = "vmtool.host.workers.log_writer"
RESOLVER = (Path("/etc/resolv.conf"), "/etc/resolv.conf")


@dataclass(frozen=True)
class GuestPart:
    """What a virtual machine adds to its container.

    Args:
        environment: beside the spec's.
        nodes: device files to pass on.
        config: file that the shim shall read; None for runc.
        seconds: that `ctr run` may take.
        end: after the container's removal: what makes sure that no virtual machine is left.
        init_data: the text that it is made with; empty for none.
    """

    environment: tuple[tuple[str, str], ...] = ()
    nodes: tuple[Path, ...] = ()
    config: Path | None = None
    seconds: float = 120.0
    end: tuple[p.Action, ...] = ()
    init_data: str = ""


def plan_container(launch: Launch, guest: GuestPart) -> p.Step:
    """Start the container; it is detached, and writes to the instance's log.

    A guest's size is its configuration's: Kata would add a limit of the container's to it.
    """
    paths, body, hub = launch.paths, launch.body, launch.state.root / "hub"
    options = ("--detach", "--pid-file", str(paths.pidfile), "--log-uri", python_uri(LOG_WRITER, _place(paths)))
    mark = lease_mark(launch.state, paths.directory)
    fetched = body.model.source == "huggingface"
    container = c.Container(
        name=launch.unit, image=launch.image.reference, command=server_command(launch),
        handler=body.runtime.handler, memory=0 if guest.config else body.resources.memory,
        cpus=0 if guest.config else body.resources.cpus,
        binds=((body.model.path, model_path(body)) if body.model.path else RESOLVER, *body.vllm.mounts.values()),
        keyed=True,
        writable=((hub, HUB),) if fetched else (),
        env=(*guest.environment, *(HUB_ENV if fetched else ()), *body.vllm.env.items()),
        netns=netns_path(launch.netns), devices=guest.nodes, config=guest.config, profile=body.hardening.chosen,
        annotations=((ANNOTATION, init_data_annotation(guest.init_data)),) if guest.init_data else (),
    )
    return p.Step(
        f"start the container with {body.runtime.handler}",
        (*([p.MakeDir(hub, mode=0o755, uid=c.UID)] if fetched else []),
         *c.start(launch.endpoint, container, mark, *options, deadline=guest.seconds), p.RecordPid(paths.pidfile)),
        undo=(*awake(launch.state, launch.endpoint), *c.removal(launch.endpoint, launch.unit, mark), *guest.end))


def _place(paths: Paths) -> str:
    """Where the log is, with a slot in any case: so the writer knows the instance's directory too."""
    return f"{paths.directory}/{paths.slot or '.'}/{GUEST_LOG}"


def plan_key(launch: Launch) -> p.Step:
    """The workload starts, and so reads the model, only when it has its key: after the check of the guest.

    An encrypted model's key goes first, straight from its file: no copy of it stays here. One that a broker has never
    comes here.
    """
    encryption = launch.body.model.encryption
    file = encryption.key.file if encryption else None
    model = [c.hand_over(launch.endpoint, launch.unit, file, launch.paths.fifos, c.MODEL_KEY)] if file else []
    return p.Step("hand over the key, which starts the server", (
        write_access(launch.paths, tls=launch.body.tls.on), *model,
        c.hand_over(launch.endpoint, launch.unit, launch.paths.access, launch.paths.fifos)))


def model_path(body: Body) -> str:
    """Where the model is inside the container: a directory, or a repository's name."""
    return "/models/local" if body.model.path else str(body.model.repository)


def server_command(launch: Launch, key: str = c.KEY, host: str = "") -> tuple[str, ...]:
    """The front and vLLM behind it. When only this host may ask, the front lets in nobody but the bridge's address,
    which is where portmap makes the host's own connections come from; a neighbour on the bridge is turned away.

    Args:
        host: what the front knows the host by, where that must not depend on the network.
    """
    body, network, ports = launch.body, launch.network, launch.body.network.ports
    only_host = bool(ports) and all(port.loopback for port in ports)
    allowed = sorted({power for each in body.server_arguments for power in each.option.powers(each.value)})
    host = host or f"{network.gateway}/32"
    return (
        "python3", "-P", "-m", "vmtool.serving.entrypoint", "--model", model_path(body),
        "--served-model-name", body.model.name, "--listen", f"0.0.0.0:{container_port(body)}",
        "--api-key-file", key, *(("--engine", body.model.engine) if body.model.engine != "vllm" else ()),
        *body.restart.words, *_hardening_words(launch),
        *(("--allow-from", host) if only_host or not ports else ()),
        "--manage", f"0.0.0.0:{launch.manage}", "--manage-from", host,
        *(word for each in body.metrics.allow_from for word in ("--metrics-from", str(each))),
        *(word for each in body.metrics.names for word in ("--metric-names", each)),
        *(word for power in allowed for word in ("--allow", power)),
        "--", *(word for argument in body.server_arguments for word in argument.words),
    )


def _hardening_words(launch: Launch) -> tuple[str, ...]:
    """What the entrypoint checks from inside: of an encrypted model, or when another profile than the usual one is
    asked for. The usual one is proven from outside, and an image of an earlier vmtool cannot check it."""
    body, signer = launch.body, launch.encrypted.signer if launch.encrypted else ""
    checked = body.model.encryption or body.hardening != Hardening()
    pinned = body.model.encryption.manifest if body.model.encryption else None
    manifest = ("--model-manifest", pinned) if pinned else ()
    return (*(("--hardening", body.hardening.chosen.name) if checked else ()),
            *(("--model-signer", signer) if signer else ()), *manifest, *_broker_words(launch))


def _broker_words(launch: Launch) -> tuple[str, ...]:
    """Who releases the model's key; there is no secret in it."""
    encryption = launch.body.model.encryption
    broker = encryption.key.broker if encryption else None
    if broker is None:
        return ()
    place = ("--model-key-broker", broker.url) if broker.url else ()
    ca = ("--model-key-ca", launch.encrypted.ca) if launch.encrypted and launch.encrypted.ca else ()
    sample = ("--allow-unconfidential",) if launch.body.runtime.tee == NONE else ()
    text = launch.launcher.init_data(launch)
    init_data = ("--model-key-init-data", base64.b64encode(text.encode()).decode()) if text else ()
    return ("--model-key-resource", broker.resource, *place, *ca, *init_data, *sample)


def signal_task(record: InstanceRecord, signal: str) -> Run:
    """Send a signal to the container's first process."""
    return Run(record.endpoint.ctr("task", "kill", "--signal", signal, record.unit), absent_messages=("not found",))
