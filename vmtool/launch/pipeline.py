"""The plan of a launch: spec and facts in, steps out. Each step has its own way back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vmtool import plan as p
from vmtool.containerd import container as c
from vmtool.containerd.endpoint import Endpoint, awake, choose_endpoint, plan_containerd
from vmtool.endpoint.actions import AskCanary, AwaitHealth
from vmtool.errors import Refused
from vmtool.gpu.launch_devices import Selection, plan_accelerators
from vmtool.image.reference import full_reference
from vmtool.instance.instance import Instance, Paths, Record, record_text, subject_of
from vmtool.kata.launcher import Guest, guest_of, plan_guest, plan_look
from vmtool.launch.check import check_launch, netns_name
from vmtool.launch.facts import LaunchFacts, choose_devices
from vmtool.launch.timeouts import canary_deadline, start_deadline
from vmtool.libvirt import launcher as d
from vmtool.libvirt.initramfs_files import KEY as GUEST_KEY
from vmtool.libvirt.launch_domain import Vm, vm_of
from vmtool.net.network import Network, netns_path, result_path
from vmtool.net.plan import plan_attach, plan_network
from vmtool.paths import State
from vmtool.spec.runtime import Body, Spec

PORT = 8000
HUB = "/models/hub"
# The image keeps vLLM off the network, except for a model that must be fetched.
HUB_ENV = (("HF_HOME", HUB), ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "0"))
RESOLVER = (Path("/etc/resolv.conf"), "/etc/resolv.conf")


def plan_launch(state: State, spec: Spec, facts: LaunchFacts, *, timeout: float | None = None) -> p.Plan:
    """From nothing to an instance that gave the canary's answer.

    Args:
        timeout: seconds until /health must answer, instead of the spec's or the computed one.

    Raises:
        Refused, NotReady: as `check_launch`; or another spec runs under this name.
    """
    subject, directory = subject_of(spec.name), state.instance(spec.name)
    earlier = facts.earlier
    if earlier and earlier.state == "running":
        if earlier.known().digest != digest(spec):
            raise Refused(f"{spec.name} runs already, with another spec",
                          hint=f"vmtool rm {spec.name}, or another metadata.name")
        return p.Plan(subject, directory, (p.Step(f"launch {spec.name}", skip="it runs, with this very spec"),))
    chosen = choose_devices(spec, facts.gpu)
    network = check_launch(spec, facts, chosen)
    endpoint = choose_endpoint(state, bool(facts.host.containerd.answers))
    guest = guest_of(spec, facts.survey, chosen) if facts.survey else None
    vm = vm_of(state, spec, facts.domain, chosen.bdfs if chosen else (), network.bridge) if facts.domain else None
    record = _record(spec, endpoint, directory, guest, vm)
    return p.Plan(subject, directory, (
        *([plan_clearing(earlier)] if earlier else []),
        plan_files(spec, record, directory),
        plan_containerd(state, endpoint, spec.name),
        plan_image(spec, endpoint, directory),
        *([d.plan_disks(state, spec, vm, record.image, endpoint)] if vm else []),
        *plan_network(state, facts.host.network, network),
        plan_attach(state, facts.host.network, network, container_id=spec.name, netns_name=netns_name(spec.name),
                    directory=directory / "net", publish=spec.spec.network.ports, owner=subject),
        *(plan_guest(state, guest, chosen, directory) if guest else ()),
        *(plan_vm(state, spec, vm, chosen, network, directory) if vm else
          (plan_container(state, spec, endpoint, network, directory, guest),)),
        *(plan_look(spec, guest, directory) if guest else ()),
        *([] if vm else [plan_key(spec, endpoint, directory)]),
        plan_health(spec, facts, record, directory, timeout, slowdown=d.SLOWDOWN if vm and vm.emulated else 1),
        *plan_canary(spec, facts, record, directory, slowdown=d.SLOWDOWN if vm and vm.emulated else 1),
    ))


def plan_vm(state: State, spec: Spec, vm: Vm, chosen: Selection | None, network: Network,
            directory: Path) -> tuple[p.Step, ...]:
    """From the devices to a guest of libvirt's whose workload was started."""
    return (*(plan_accelerators(state, chosen) if chosen else ()),
            d.plan_initrd(spec, vm, server_command(spec.spec, network, key=GUEST_KEY)),
            d.plan_domain(spec, vm, network, netns_name(spec.name), directory),
            d.plan_look(spec, vm, directory), *d.plan_greeting(spec, vm, directory))


def digest(spec: Spec) -> str:
    """SHA-256 of the spec's content, however the file was written."""
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def plan_clearing(earlier: Instance) -> p.Step:
    """Go the way back of what an earlier launch of the same name left."""
    undo = tuple(action for entry in reversed(earlier.story.entries) for action in entry.undo)
    title = "clear what the earlier launch left"
    old = (earlier.paths.log, earlier.paths.pidfile, earlier.paths.directory / "evidence")
    return p.Step(title, undo + tuple(p.Remove(path) for path in old), undo, clears_previous=True)


def plan_files(spec: Spec, record: Record, directory: Path) -> p.Step:
    """The instance's own files. A failed launch keeps them, but for the key, so that its logs can be read."""
    paths = Paths(directory)
    return p.Step(
        "write the instance's files",
        (
            p.MakeDir(directory / "log"), p.MakeDir(directory / "evidence"),
            p.WriteFile(paths.spec, spec.model_dump_json(indent=2, by_alias=True) + "\n"),
            p.WriteFile(paths.record, record_text(record)),
            p.CopySecret(paths.key, c.UID, spec.spec.vllm.api_key_file),
        ),
        undo=(p.Remove(paths.key.parent),),
    )


def plan_image(spec: Spec, endpoint: Endpoint, directory: Path) -> p.Step:
    """The image must be there; its digest goes to the evidence."""
    name = full_reference(spec.spec.image)
    recipe = name.rpartition("/")[2].partition(":")[0]
    return p.Step(f"find the image {name}", (
        p.Expect(endpoint.ctr("images", "list", "--quiet", f"name=={name}"), name,
                 hint=f"vmtool image build {recipe}, or: vmtool image import ARCHIVE"),
        p.Run(endpoint.ctr("images", "list", f"name=={name}"), stdout=directory / "evidence" / "image.txt"),
    ))


def plan_container(state: State, spec: Spec, endpoint: Endpoint, network: Network, directory: Path,
                   guest: Guest | None = None) -> p.Step:
    """Start the container; it is detached, and writes to the instance's log.

    A guest's size is its configuration's: Kata would add a limit of the container's to it.
    """
    paths = Paths(directory)
    options = ("--detach", "--pid-file", str(paths.pidfile), "--log-uri", f"file://{paths.log}")
    made: list[p.Action] = []
    body = spec.spec
    hub = state.root / "hub"
    if body.model.source == "huggingface":
        made.append(p.MakeDir(hub, mode=0o755, uid=c.UID))
    container = c.Container(
        name=spec.name, image=full_reference(body.image), command=server_command(body, network),
        handler=body.runtime.handler, memory=0 if guest else body.resources.memory,
        cpus=0 if guest else body.resources.cpus,
        binds=((body.model.path, model_path(body)) if body.model.path else RESOLVER,), keyed=True,
        writable=((hub, HUB),) if body.model.source == "huggingface" else (),
        env=(*(guest.environment if guest else ()), *(HUB_ENV if body.model.source == "huggingface" else ()),
             *body.vllm.env.items()),
        netns=netns_path(netns_name(spec.name)), devices=guest.nodes if guest else (),
        config=paths.kata if guest else None,
    )
    run = p.Run(c.run_argv(endpoint, container, *options), deadline=guest.seconds if guest else 120)
    return p.Step(f"start the container with {body.runtime.handler}", (*made, run, p.RecordPid(paths.pidfile)),
                  undo=(*awake(state, endpoint), *c.removal(endpoint, spec.name), *(guest.end if guest else ())))


def plan_key(spec: Spec, endpoint: Endpoint, directory: Path) -> p.Step:
    """The workload starts, and so reads the model, only when it has its key: after the look at the guest."""
    return p.Step("hand over the key, which starts the server",
                  (c.hand_over(endpoint, spec.name, Paths(directory).key),))


def model_path(body: Body) -> str:
    """Where the model is inside the container: a directory, or a repository's name."""
    return "/models/local" if body.model.path else str(body.model.repository)


def server_command(body: Body, network: Network, key: str = c.KEY) -> tuple[str, ...]:
    """The front and vLLM behind it. When only this host may ask, the front lets in nobody but the bridge's address,
    which is where portmap makes the host's own connections come from; a neighbour on the bridge is turned away."""
    ports = body.network.ports
    only_host = bool(ports) and all(port.loopback for port in ports)
    return (
        "python3", "-P", "-m", "vmtool.serving.entrypoint", "--model", model_path(body),
        "--served-model-name", body.model.name, "--listen", f"0.0.0.0:{container_port(body)}",
        "--api-key-file", key, *(("--engine", body.model.engine) if body.model.engine != "vllm" else ()),
        *(("--allow-from", f"{network.gateway}/32") if only_host or not ports else ()),
        "--", *body.vllm.args,
    )


def container_port(body: Body) -> int:
    """Where the front listens inside the container."""
    return body.network.ports[0].container_port if body.network.ports else PORT


def plan_health(spec: Spec, facts: LaunchFacts, record: Record, directory: Path, timeout: float | None, *,
                slowdown: int = 1) -> p.Step:
    """Wait for the server, as long as memory and model size justify; `slowdown` times that where it is emulated."""
    computed = start_deadline(spec.spec.resources.memory, _model_size(facts), record.confidential)
    deadline = timeout or spec.spec.timeouts.start or computed * slowdown
    paths = Paths(directory)
    return p.Step(f"wait until the server is healthy, at most {deadline:.0f} s",
                  (AwaitHealth(record.server, paths.pidfile, paths.log, deadline),), waits_only=True)


def plan_canary(spec: Spec, facts: LaunchFacts, record: Record, directory: Path, *,
                slowdown: int = 1) -> tuple[p.Step, ...]:
    """Ask the spec's question, or the one that the model brings along."""
    canary = spec.spec.canary
    brought = facts.model.canary if facts.model else None
    if canary:
        prompt, expect, match = canary.prompt, canary.expect, canary.match
    elif brought:
        (prompt, expect), match = brought, "exact"
    else:
        return (p.Step("ask the canary", skip="NOT CHECKED: the spec and the model name no question with a known "
                                              "answer", waits_only=True),)
    deadline = spec.spec.timeouts.canary or canary_deadline(_model_size(facts)) * slowdown
    paths = Paths(directory)
    ask = AskCanary(record.server, paths.key, record.model, prompt, expect, match, paths.canary, deadline)
    return (p.Step("ask the canary and compare its answer", (ask,), waits_only=True),)


def _model_size(facts: LaunchFacts) -> int:
    """Bytes; of a model that is yet to be fetched, a size that gives it half an hour."""
    return facts.model.size if facts.model else 180 << 30


def _record(spec: Spec, endpoint: Endpoint, directory: Path, guest: Guest | None, vm: Vm | None) -> Record:
    body = spec.spec
    port = body.network.ports[0] if body.network.ports else None
    host = "127.0.0.1" if port and port.host_ip == "0.0.0.0" else port.host_ip if port else ""  # noqa: S104
    return Record(
        name=spec.name, digest=digest(spec), handler=body.runtime.handler, tee=body.runtime.tee,
        image=full_reference(body.image), model=body.model.name,
        socket=str(endpoint.socket), private=endpoint.private,
        host=host, port=port.host_port if port else PORT, netns=str(netns_path(netns_name(spec.name))),
        result=str(result_path(directory / "net")), memory=body.resources.memory,
        **(_guest_part(guest) if guest else _vm_part(vm) if vm else {}),
    )


def _guest_part(guest: Guest) -> dict[str, Any]:
    assets = guest.survey.asked.assets
    return {"devices": guest.devices, "program": assets.qemu, "kernel": assets.kernel, "configuration": guest.digest}


def _vm_part(vm: Vm) -> dict[str, Any]:
    return {"devices": vm.devices, "program": vm.emulator, "kernel": str(vm.kernel), "configuration": vm.digest,
            "uri": vm.uri, "channel": str(vm.place.channel)}
