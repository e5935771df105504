"""What is claimed about a guest of Kata's: QEMU's arguments, its program, configuration and image, its own word."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.facts.qemu import read_qemu, real_path
from vmtool.facts.reader import Reader
from vmtool.kata.arguments import parse_arguments
from vmtool.kata.claims import image_claim, params_claim, vm_claims
from vmtool.kata.verity import parse_verity
from vmtool.launch.claim import Claim
from vmtool.launch.guestview import not_asked, view_claims
from vmtool.launch.imageproof import bytes_claim, read_promise, root_hash_claim
from vmtool.launch.instance import Instance, Record


def sandbox_name(instance: str) -> str:
    """What Kata names the QEMU of a container that is its own sandbox."""
    return f"sandbox-{instance}"


def guest_claims(reader: Reader, instance: Instance, record: Record, *, whole: bool = False) -> tuple[Claim, ...]:
    """Look at the QEMU that runs now. Without one to look at nothing is proven.

    Args:
        whole: ask the container as well, and hash the image.
    """
    unchanged, settings = _configuration(reader, instance, record)
    found = read_qemu(reader, sandbox_name(instance.name))
    argv = found[0].argv if len(found) == 1 else ()
    commandline = parse_arguments(argv).plain.get("append", "") if argv else ""
    asked = view_claims(reader, record, commandline) if whole else not_asked(record)
    told = (unchanged, *_image(reader, settings, argv, commandline, whole=whole), *asked)
    if not argv:
        count = f"{len(found)} QEMU processes are" if found else "no QEMU process is"
        verdict = f"{record.tee} was asked for; {count} named {sandbox_name(instance.name)}"
        return (Claim("tee", "not-checked" if record.confidential else "failed", verdict if record.confidential else
                      "NOT CONFIDENTIAL: none was asked for; root on this host reads everything"), *told)
    [process] = found
    kernels = {record.kernel, real_path(reader, record.kernel)}
    claims = vm_claims(process.argv, record.tee, record.devices, kernels)
    right = process.program == real_path(reader, record.program)
    program = Claim("vm.program", "proven" if right else "failed" if process.program else "not-checked",
                    process.program or f"/proc/{process.pid}/exe does not tell")
    return (*claims, program, *told)


def _configuration(reader: Reader, instance: Instance, record: Record) -> tuple[Claim, Mapping[str, Any]]:
    """Whether the file is still what was rendered (the shim read it at the start only), and then its hypervisor's
    part; nothing of a file that was changed is believed."""
    text = reader.text(str(instance.paths.kata))
    if text is None:
        return Claim("configuration.unchanged", "failed", f"{instance.paths.kata} is gone"), {}
    digest = hashlib.sha256(text.encode()).hexdigest()
    evidence = f"{instance.paths.kata.name} sha256:{digest}"
    if digest != record.configuration:
        return Claim("configuration.unchanged", "failed", evidence), {}
    try:
        settings: Mapping[str, Any] = tomllib.loads(text).get("hypervisor", {}).get("qemu", {})
    except tomllib.TOMLDecodeError:
        settings = {}
    return Claim("configuration.unchanged", "proven", evidence), settings


def _image(reader: Reader, settings: Mapping[str, Any], argv: tuple[str, ...], commandline: str, *,
           whole: bool) -> Iterator[Claim]:
    """What the configuration names must be what QEMU was given, and what its manifest tells."""
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
