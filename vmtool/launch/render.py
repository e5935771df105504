"""What the `render` commands show of a launch: the domain and the network that `vmtool run` would make."""

from __future__ import annotations

from vmtool.doctor.host import HostFacts
from vmtool.errors import Refused, VmtoolError
from vmtool.findings import failing, refuse
from vmtool.frozen import dataclass
from vmtool.launch.check import check_launch
from vmtool.launch.stages import stages_of
from vmtool.libvirt.facts import DomainFacts
from vmtool.libvirt.launch_check import ONLY_RENDERED, check_domain
from vmtool.net.check import check_syntax
from vmtool.stage.launch import Launch


@dataclass(frozen=True)
class Rendering:
    """A domain.

    Args:
        text: libvirt's XML.
        stops: why `vmtool run` would not start it here and now; nothing of it shows in the text.
    """

    text: str
    stops: tuple[str, ...]


def render_launch(launch: Launch, host: HostFacts) -> Rendering:
    """The domain as `vmtool.launch.pipeline.plan_launch` has it in its plan.

    Raises:
        Refused: the spec is wrong, or is not for libvirt.
        NotReady: this host lacks what the description names: the emulator, a device. Each lists every problem.
    """
    runtime, domain = launch.body.runtime, launch.guest
    if not isinstance(domain, DomainFacts):
        raise Refused(f"spec.runtime.handler: {runtime.handler} has no domain", hint="write handler: libvirt" + (
            "; or: vmtool kata render SPEC" if runtime.handler == "kata" else ""))
    about_devices = launch.devices.findings if launch.devices else ()
    found = failing(item for item in (
        *check_domain(launch.spec, domain), *about_devices,
        *check_syntax(launch.network_facts, launch.network_request)) if item.id != ONLY_RENDERED)
    wrong = any(item.fault == "input" for item in found)
    # What the host lacks keeps the domain from running, and only some of it from being described.
    nameable = domain.image and domain.emulator and not failing(about_devices)
    if wrong or not nameable:
        refuse(found, f"{launch.name} gives no domain", "correct the spec" if wrong else
               f"vmtool doctor --for libvirt --tee {runtime.tee}")
    return Rendering(launch.made.text, _stops(launch, host))


def _stops(launch: Launch, host: HostFacts) -> tuple[str, ...]:
    if launch.earlier and launch.earlier.state == "running":
        return (f"{launch.name} runs already",)
    try:
        check_launch(launch, stages_of(launch), host)
    except VmtoolError as error:
        return error.details
    return ()
