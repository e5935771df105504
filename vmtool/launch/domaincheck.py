"""What speaks against a domain of a spec's on this host: every problem, with whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.errors import Refused, VmtoolError
from vmtool.gpu.facts import GpuFacts
from vmtool.launch.domainfacts import DomainFacts
from vmtool.launch.guestfiles import unit_word
from vmtool.launch.vm import devices_of
from vmtool.libvirt.check import wish_problems
from vmtool.libvirt.domain import LONGEST, Kernel, kernel_words
from vmtool.spec import Spec

ONLY_RENDERED = ("spec.runtime.libvirt.boot: firmware is only rendered (vmtool libvirt render): such a guest has no "
                 "agent of vmtool's")


def vm_problems(spec: Spec, facts: DomainFacts, gpu: GpuFacts | None) -> Iterator[tuple[type[VmtoolError], str]]:
    """What speaks against it: with whose fault it is."""
    body = spec.spec
    yield from facts.problems
    yield from wish_problems(body, facts.architecture, facts.libvirt)
    if body.model.source != "local":
        yield Refused, "spec.model.source: a guest of libvirt's fetches no model; use a local one"
    if body.runtime.libvirt.boot == "firmware":
        yield Refused, ONLY_RENDERED
    elif (size := _command_line(spec, facts)) > LONGEST:
        yield Refused, (f"spec.runtime.libvirt.kernel_params: the guest's kernel command line has {size} bytes with "
                        f"them, and Linux cuts it off after {LONGEST}")
    for word in (*body.vllm.args, *(f"{name}={value}" for name, value in body.vllm.env.items())):
        try:
            unit_word(word)
        except ValueError as error:
            yield Refused, f"spec.vllm: {error}"
    try:
        devices_of(spec, gpu)
    except VmtoolError as error:
        yield from ((type(error), line) for line in (error.details or (error.message,)))


def _command_line(spec: Spec, facts: DomainFacts) -> int:
    """Bytes of the guest's kernel command line; 0 without an image, which says what it boots to."""
    if facts.image is None:
        return 0
    runtime = spec.spec.runtime
    words = kernel_words(facts.architecture, runtime.tee, facts.image.target, runtime.libvirt.kernel_params)
    return len(Kernel(facts.image.kernel, None, words).cmdline.encode())
