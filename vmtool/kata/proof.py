"""What is claimed about a guest of Kata's: QEMU's arguments, its program, configuration and image, its own word."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.attest.tee_claims import launch_claim
from vmtool.claims import GUEST_TEE, Claim
from vmtool.foreign import parse_toml
from vmtool.instance.instance import Instance, InstanceRecord
from vmtool.kata.guest_claims import not_asked, view_claims
from vmtool.machine import Reader
from vmtool.proof.image import bytes_claim, read_promise, root_hash_claim
from vmtool.qemu.arguments import parse_arguments
from vmtool.qemu.claims import image_claim, params_claim
from vmtool.qemu.processes import real_path
from vmtool.qemu.proof import qemu_claims, unchanged_claim
from vmtool.spec.verity_params import parse_verity


def sandbox_name(instance: str) -> str:
    """What Kata names the QEMU of a container that is its own sandbox."""
    return f"sandbox-{instance}"


def guest_claims(reader: Reader, instance: Instance, record: InstanceRecord, *,
                 whole: bool = False) -> tuple[Claim, ...]:
    """Look at the QEMU that runs now. Without one to look at nothing is proven.

    Args:
        whole: ask the container as well, and hash the image.
    """
    unchanged, settings = _configuration(reader, instance, record)
    machine, argv = qemu_claims(reader, record, sandbox_name(instance.unit), instance.pid)
    commandline = parse_arguments(argv).plain.get("append", "") if argv else ""
    asked = _asked(reader, instance, record, commandline) if whole else not_asked(record)
    files = (unchanged, *_base(reader, record), *_image(reader, settings, argv, commandline, whole=whole))
    return (*machine, *files, *asked)


def _asked(reader: Reader, instance: Instance, record: InstanceRecord, commandline: str) -> Iterator[Claim]:
    """The guest's own word; and evidence of its TEE, which alone is more than that."""
    for claim in view_claims(reader, record, commandline):
        yield launch_claim(reader, instance, record, claim) if claim.id == GUEST_TEE else claim


def _configuration(reader: Reader, instance: Instance, record: InstanceRecord) -> tuple[Claim, Mapping[str, Any]]:
    """Whether the file is still what was rendered (the shim read it at the start only), and then its hypervisor's
    part; nothing of a file that was changed is believed."""
    text = reader.text(str(instance.paths.kata))
    claim = unchanged_claim(str(instance.paths.kata), text, record.details["configuration"])
    if text is None or claim.verdict != "proven":
        return claim, {}
    settings: Mapping[str, Any] = parse_toml(text).get("hypervisor", {}).get("qemu", {})
    return claim, settings


def _base(reader: Reader, record: InstanceRecord) -> Iterator[Claim]:
    """On which shipped configuration it stands. The file may have been replaced since, by a newer release's."""
    source, digest = record.details.get("base"), record.details.get("base_digest", "")
    if not source:
        return
    text = reader.text(source) if record.details["base_installed"] == "True" else None
    same = text is not None and hashlib.sha256(text.encode()).hexdigest() == digest
    yield Claim("configuration.base", "proven" if same else "not-checked", f"{source} sha256:{digest}"
                + (", which has changed since then" if text is not None and not same else ""))


def _image(reader: Reader, settings: Mapping[str, Any], argv: tuple[str, ...], commandline: str, *,
           whole: bool) -> Iterator[Claim]:
    """What the configuration names must be what QEMU was given, and what its manifest says."""
    image = str(settings.get("image") or settings.get("initrd") or "")
    if not image:
        return
    promise = read_promise(reader, image)
    if argv:
        yield image_claim(argv, {image, real_path(reader, image)})
        yield params_claim(commandline, str(settings.get("kernel_params", "")))
    named = parse_verity(str(settings.get("kernel_verity_params", ""))).get("root_hash", "")
    yield root_hash_claim(promise, named, commandline)
    yield bytes_claim(reader, image, promise, whole=whole)
