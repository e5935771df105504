"""Wish, not hope: what the kernel says of the process that runs, claim by claim."""

from __future__ import annotations

import json
import os

from vmtool.claims import Claim
from vmtool.containerd.container import UID
from vmtool.instance.instance import Instance
from vmtool.kata.proof import guest_claims, sandbox_name
from vmtool.libvirt.launch_domain import domain_name
from vmtool.libvirt.proof import domain_claims
from vmtool.machine import Reader
from vmtool.proof.devices import driver_claims, left_claims, task_claim


def read_claims(reader: Reader, instance: Instance, *, whole: bool = False) -> tuple[Claim, ...]:
    """Look at the running instance. A claim that could not be looked at is `not-checked`, never proven.

    Args:
        whole: look also at what takes its time: what the guest says, and the bytes of its image.
    """
    record = instance.known()
    canary = _canary(reader, instance)
    if instance.pid is None:
        gone = Claim("process.running", "failed", f"the container's process is gone ({instance.state})")
        name = {"kata": sandbox_name, "libvirt": domain_name}.get(record.handler)
        return (gone, *(left_claims(reader, record, name(record.name)) if name else ()), canary)
    if record.handler == "libvirt":
        return (Claim("process.running", "proven", f"pid {instance.pid}"),
                *domain_claims(reader, instance, record, whole=whole), *driver_claims(reader, record), canary)
    if record.handler == "kata":
        # The process on the host is the shim's or QEMU's; what holds inside the guest must be asked there.
        return (Claim("process.running", "proven", f"pid {instance.pid}"), task_claim(reader, record),
                *guest_claims(reader, instance, record, whole=whole), *driver_claims(reader, record), canary)
    return (
        Claim("process.running", "proven", f"pid {instance.pid}"),
        *_hardening(reader, instance.pid),
        _root(reader, instance.pid),
        _namespace(reader, instance.pid, record.netns.rpartition("/")[2]),
        _memory(reader, instance.pid, record.memory),
        Claim("tee", "failed", "NOT CONFIDENTIAL: none was asked for; root on this host reads everything"),
        canary,
    )


def _hardening(reader: Reader, pid: int) -> tuple[Claim, ...]:
    """What /proc/PID/status says (proc(5)): no capability, no new privileges, a seccomp filter, not root."""
    text = reader.text(f"/proc/{pid}/status") or ""
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    wanted = {
        "process.no-capabilities": (("CapEff", "CapPrm", "CapBnd"), "0000000000000000"),
        "process.no-new-privileges": (("NoNewPrivs",), "1"),
        "process.seccomp-filter": (("Seccomp",), "2"),
        "process.not-root": (("Uid",), "\t".join([str(UID)] * 4)),
    }
    claims = []
    for claim, (fields, value) in wanted.items():
        seen = {field: status.get(field, "").strip() for field in fields}
        evidence = " ".join(f"{field}={text.split(chr(9))[0]}" for field, text in seen.items())
        if not all(seen.values()):
            claims.append(Claim(claim, "not-checked", f"/proc/{pid}/status does not tell"))
        else:
            right = all(text == value for text in seen.values())
            claims.append(Claim(claim, "proven" if right else "failed", evidence))
    return tuple(claims)


def _root(reader: Reader, pid: int) -> Claim:
    for line in (reader.text(f"/proc/{pid}/mountinfo") or "").splitlines():
        fields = line.split()
        if fields[4] == "/":
            read_only = "ro" in fields[5].split(",")
            return Claim("rootfs.read-only", "proven" if read_only else "failed", f"mounted {fields[5]}")
    return Claim("rootfs.read-only", "not-checked", f"/proc/{pid}/mountinfo does not tell")


def _namespace(reader: Reader, pid: int, name: str) -> Claim:
    names = reader.run(("ip", "netns", "identify", str(pid)))
    if names is None or names.status:
        return Claim("network.own-namespace", "not-checked", "`ip netns identify` did not answer")
    found = names.out.split()
    return Claim("network.own-namespace", "proven" if found == [name] else "failed",
                 f"in network namespace {' '.join(found) or 'of the host'}")


def _memory(reader: Reader, pid: int, wanted: int) -> Claim:
    """The limit of the process's memory cgroup, version 1 or 2; the kernel rounds it down to whole pages."""
    wanted -= wanted % os.sysconf("SC_PAGE_SIZE")
    for line in (reader.text(f"/proc/{pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        file = {"memory": f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes",
                "": f"/sys/fs/cgroup{path}/memory.max"}.get(controllers)
        limit = (reader.text(file) or "").strip() if file else ""
        if limit:
            return Claim("memory.limit", "proven" if limit == str(wanted) else "failed", f"{limit} bytes")
    return Claim("memory.limit", "not-checked", "no memory cgroup was found")


def _canary(reader: Reader, instance: Instance) -> Claim:
    text = reader.text(str(instance.paths.canary))
    if text is None:
        return Claim("canary", "not-checked", "no question with a known answer was given (spec.canary)")
    exchange = json.loads(text)
    return Claim("canary", "proven" if exchange["right"] else "failed",
                 f"at the start it answered {exchange['answer'].strip()[:80]!r}")
