"""What the kernel says of the process of a plain container, claim by claim."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmtool.claims import Claim
from vmtool.containerd.container import PIDS, UID
from vmtool.facts.cgroup import read_cgroup
from vmtool.image.proof import container_image_claim
from vmtool.instance.instance import Instance
from vmtool.machine import Reader


def container_claims(reader: Reader, instance: Instance) -> Iterator[Claim]:
    """Hardening, root file system, network namespace and memory of the container's first process."""
    record, pid = instance.known(), instance.pid
    if pid is None:
        return
    yield from _hardening(reader, pid)
    yield _root(reader, pid)
    yield _namespace(reader, pid, record.netns.rpartition("/")[2])
    yield _memory(reader, pid, record.memory)
    yield _limit(reader, pid, "pids.limit", "pids", ("pids.max", "pids.max"), PIDS)
    yield container_image_claim(reader, record)
    yield Claim("tee", "failed", "NOT CONFIDENTIAL: none was asked for; root on this host reads everything")


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
    return _limit(reader, pid, "memory.limit", "memory", ("memory.limit_in_bytes", "memory.max"), wanted, " bytes")


def _limit(reader: Reader, pid: int, claim: str, controller: str, files: tuple[str, str], wanted: int,
           unit: str = "") -> Claim:
    """A limit of the process's cgroup, version 1 or 2, in the file of that version."""
    limit = read_cgroup(reader, pid, controller, first=files[0], second=files[1])
    if limit:
        return Claim(claim, "proven" if limit == str(wanted) else "failed", f"{limit}{unit}")
    return Claim(claim, "not-checked", f"no {controller} cgroup was found")
