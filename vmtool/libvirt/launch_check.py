"""What speaks against a domain of a spec's on this host: every problem, with whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.gpu.facts import GpuFacts
from vmtool.libvirt.check import wish_problems
from vmtool.libvirt.domain import LONGEST, Kernel, kernel_words
from vmtool.libvirt.facts import DomainFacts, Problem
from vmtool.libvirt.initramfs_files import unit_word
from vmtool.libvirt.launch_domain import devices_of
from vmtool.libvirt.verity_table import is_verified
from vmtool.spec.runtime import Body, Spec

ONLY_RENDERED = ("spec.runtime.libvirt.boot: firmware is only rendered (vmtool libvirt render): such a guest has no "
                 "agent of vmtool's")


def vm_problems(spec: Spec, facts: DomainFacts, gpu: GpuFacts | None) -> Iterator[Problem]:
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
    yield from _verity(body, facts)
    for word in (*body.vllm.args, *(f"{name}={value}" for name, value in body.vllm.env.items())):
        try:
            unit_word(word)
        except ValueError as error:
            yield Refused, f"spec.vllm: {error}"
    try:
        devices_of(spec, gpu)
    except VmtoolError as error:
        yield from ((type(error), line) for line in (error.details or (error.message,)))


def _verity(body: Body, facts: DomainFacts) -> Iterator[Problem]:
    if not is_verified(body) or body.runtime.libvirt.boot == "firmware":
        return
    if facts.image and not facts.image.verity:
        yield Refused, (f"spec.runtime.libvirt.image: {facts.image.path} has no root hash that its disk could be held "
                        "against: build it with verity: {} in its recipe")
    if not facts.dmsetup:
        yield NotReady, (f"dmsetup and veritysetup for {facts.architecture} are not installed, which the guest's "
                         "verified disks need (apt-get install dmsetup cryptsetup-bin)")


def _command_line(spec: Spec, facts: DomainFacts) -> int:
    """Bytes of the guest's kernel command line; 0 without an image, which says what it boots to."""
    if facts.image is None:
        return 0
    runtime = spec.spec.runtime
    words = kernel_words(facts.architecture, runtime.tee, facts.image.target, runtime.libvirt.kernel_params)
    return len(Kernel(facts.image.kernel, None, words).cmdline.encode())
