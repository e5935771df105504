"""Reasons not to start a spec's domain on this host: all of them, and whether input or host is at fault."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.libvirt.check import check_request
from vmtool.libvirt.domain import LONGEST, Kernel, kernel_words
from vmtool.libvirt.facts import DomainFacts
from vmtool.libvirt.initramfs_files import unit_word
from vmtool.libvirt.verity_table import is_verified
from vmtool.spec.runtime import Body, Spec

# The id of the finding on a guest that can be rendered, and not launched.
ONLY_RENDERED = "libvirt.only-rendered"


def check_domain(spec: Spec, facts: DomainFacts) -> Iterator[Finding]:
    """Reasons not to start it."""
    body = spec.spec
    yield from facts.findings
    yield from check_request(body, facts.architecture, facts.libvirt)
    if body.model.source != "local":
        yield wrong_input("libvirt.model", "a guest of libvirt's fetches no model; use a local one",
                          place="spec.model.source")
    if body.runtime.libvirt.boot == "firmware":
        yield wrong_input(ONLY_RENDERED, "firmware is only rendered (vmtool libvirt render): such a guest has no agent "
                          "of vmtool's", place="spec.runtime.libvirt.boot")
    elif (size := _command_line(spec, facts)) > LONGEST:
        yield wrong_input("libvirt.command-line", f"the guest's kernel command line has {size} bytes with them, and "
                          f"Linux cuts it off after {LONGEST}", place="spec.runtime.libvirt.kernel_params")
    yield from _verity(body, facts)
    yield from _encrypted(body)
    if body.runtime.libvirt.tpm and not facts.swtpm:
        yield host_lacks("libvirt.swtpm", "swtpm and swtpm_setup are not installed, which are the guest's TPM",
                         "apt-get install swtpm swtpm-tools", "spec.runtime.libvirt.tpm")
    if body.vllm.files:
        yield wrong_input("libvirt.files", "a libvirt guest shares no files with this host: copy them into the model's "
                          "directory, and write args: {OPTION: /models/local/FILE}", place="spec.vllm.files")
    words = (word for argument in body.server_arguments for word in argument.words)
    for word in (*words, *(f"{name}={value}" for name, value in body.vllm.env.items())):
        try:
            unit_word(word)
        except ValueError as error:
            yield wrong_input("libvirt.word", str(error), place="spec.vllm")


def _verity(body: Body, facts: DomainFacts) -> Iterator[Finding]:
    if not is_verified(body) or body.runtime.libvirt.boot == "firmware":
        return
    if facts.image and not facts.image.verity:
        yield wrong_input("libvirt.image.verity", f"{facts.image.path} has no root hash that its disk could be held "
                          "against: build it with verity: {} in its recipe", place="spec.runtime.libvirt.image")
    if not facts.dmsetup:
        yield host_lacks("libvirt.dmsetup", f"dmsetup and veritysetup for {facts.architecture} are not installed, "
                         "which the guest's verified disks need", "apt-get install dmsetup cryptsetup-bin")


def _encrypted(body: Body) -> Iterator[Finding]:
    """What an encrypted model takes here: its key comes from a broker, to a quote of the guest's TPM."""
    if body.model.encryption is None:
        return
    broker, place = body.model.encryption.key.broker, "spec.model.encryption.key"
    if broker is None or broker.url is None:
        yield wrong_input("libvirt.key", "a libvirt guest has its model's key from a broker that it reaches by an "
                          "address: no file of this host goes into it, and there is no data hub in it",
                          "write broker: with resource, url and ca, or handler: kata", place=place)
    if body.runtime.tee != "none":
        yield wrong_input("libvirt.key.tee", f"the workload of a libvirt guest cannot ask {body.runtime.tee} for "
                          "evidence yet, which a broker wants", "write handler: kata", place="spec.runtime.tee")
    elif body.runtime.libvirt.tpm and not is_verified(body):
        yield wrong_input("libvirt.key.verity", "without it the guest's TPM shows nothing of its disks, whose programs "
                          "get the model's key", "write verity: true", place="spec.runtime.libvirt.verity")


def _command_line(spec: Spec, facts: DomainFacts) -> int:
    """Bytes of the guest's kernel command line; 0 without an image, which says what it boots to."""
    if facts.image is None:
        return 0
    runtime = spec.spec.runtime
    words = kernel_words(facts.architecture, runtime.tee, facts.image.target, runtime.libvirt.kernel_params)
    return len(Kernel(facts.image.kernel, None, words).cmdline.encode())
