"""What is claimed about a guest: QEMU's arguments, its program, the configuration it was started with."""

from __future__ import annotations

import hashlib
import os

from vmtool.facts.qemu import read_qemu, real_path
from vmtool.facts.reader import Reader
from vmtool.kata.claims import vm_claims
from vmtool.launch.claim import Claim
from vmtool.launch.instance import Instance, Record


def sandbox_name(instance: str) -> str:
    """What Kata names the QEMU of a container that is its own sandbox."""
    return f"sandbox-{instance}"


def guest_claims(reader: Reader, instance: Instance, record: Record) -> tuple[Claim, ...]:
    """Look at the QEMU that runs now. Without one to look at nothing is proven."""
    found = read_qemu(reader, sandbox_name(instance.name))
    told = (*_configuration(reader, instance, record), *([_gpus(reader, record)] if record.devices else []),
            Claim("guest.tee", "not-checked", "the guest itself was not asked, and did not attest"))
    if len(found) != 1:
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


def _gpus(reader: Reader, record: Record) -> Claim:
    """Whether the container has them: Kata's agent only logs a hook that fails, and starts the container anyway."""
    words = ("task", "exec", "--exec-id", f"vmtool-look-{os.getpid()}", record.name, "nvidia-smi", "-L")
    listed = reader.run(record.endpoint.ctr(*words), deadline=30.0)
    if listed is None or listed.status:
        why = "did not answer" if listed is None else f"ended with {listed.status}: {listed.err.strip()[-100:]}"
        return Claim("gpu.in-container", "not-checked" if listed is None else "failed", f"nvidia-smi -L {why}")
    found = sum(line.startswith("GPU ") for line in listed.out.splitlines())
    return Claim("gpu.in-container", "proven" if found else "failed",
                 f"nvidia-smi -L, as the guest says, lists {found} for {len(record.devices)} passed devices")


def _configuration(reader: Reader, instance: Instance, record: Record) -> tuple[Claim, ...]:
    """The file is still what was rendered; the shim read it at the start only."""
    text = reader.text(str(instance.paths.kata))
    if text is None:
        return (Claim("configuration.unchanged", "failed", f"{instance.paths.kata} is gone"),)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (Claim("configuration.unchanged", "proven" if digest == record.configuration else "failed",
                  f"{instance.paths.kata.name} sha256:{digest}"),)
