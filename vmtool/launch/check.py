"""Whether a spec can be launched on this host: every problem at once, before the first change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmtool.doctor.diagnose import diagnose
from vmtool.doctor.host import HostFacts
from vmtool.findings import Finding, failing, host_lacks, refuse, wrong_input
from vmtool.net.check import remedy
from vmtool.spec.runtime import Body
from vmtool.stage.launch import Launch, Stage


def check_launch(launch: Launch, stages: Sequence[Stage], host: HostFacts) -> None:
    """Refuse what cannot be launched.

    Raises:
        Refused: the spec cannot be launched anywhere as it is.
        NotReady: this host cannot launch it. Each lists every problem.
    """
    body, every = launch.body, find_problems(launch, stages, host)
    about_network = [item for item in every if item.id.startswith("net.")]
    hint = f"vmtool doctor --for {body.runtime.handler} --tee {body.runtime.tee}"
    if len(about_network) == len(every):
        hint = remedy(launch.network_facts, launch.network_request, about_network)
    elif any(item.fault == "input" for item in every):
        hint = "correct the spec, then look again with: vmtool plan SPEC"
    refuse(every, f"{launch.name} cannot be launched", hint)


def find_problems(launch: Launch, stages: Sequence[Stage], host: HostFacts) -> list[Finding]:
    """Every reason not to launch, what is wrong with the spec first."""
    found = [*check_request(launch.body), *check_host(launch.body, host),
             *(item for stage in stages for item in stage.check(launch))]
    return sorted(failing(found), key=lambda item: item.fault == "host")


def check_request(body: Body) -> Iterator[Finding]:
    """What is wrong with the spec on any host and with any launcher."""
    if body.runtime.tee == "none" and not body.allow_unconfidential:
        yield wrong_input("launch.unconfidential", "spec.runtime.tee is none, so this launch would not be "
                          "confidential: name a TEE, or set spec.allow_unconfidential: true")
    for path in (body.model.path, body.vllm.api_key_file, *body.vllm.files.values()):
        if path and set(str(path)) & set(",:\n\0"):
            yield wrong_input("launch.path",
                              f"{str(path)!r}: a path with a comma, colon, line break or zero byte cannot be mounted")


def check_host(body: Body, host: HostFacts) -> Iterator[Finding]:
    """What the host lacks: doctor's failures, and what the spec asks for beyond it."""
    yield from failing(diagnose(host, body.runtime.handler, body.runtime.tee))
    total = host.memory.total
    if total is not None and body.resources.memory > total:
        yield host_lacks("host.memory", f"{body.resources.memory >> 20} MiB, but this host has {total >> 20} MiB",
                         place="spec.resources.memory")
    if body.resources.cpus > (host.cpu.cores or body.resources.cpus):
        yield host_lacks("host.cpus", f"{body.resources.cpus:g}, but this host has {host.cpu.cores}",
                         place="spec.resources.cpus")
