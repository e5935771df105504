"""What is claimed about a guest of libvirt's: QEMU's arguments, its description, and the guest's own word.

The guest's word is just that: nobody attested it. It can still contradict the request, and then the claim has failed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

from vmtool import plan as p
from vmtool.attest.tee_claims import launch_claim
from vmtool.claims import GUEST_TEE, WORD, Claim
from vmtool.instance.instance import Instance, InstanceRecord
from vmtool.libvirt.initramfs_files import DISKS
from vmtool.libvirt.launch_domain import domain_name
from vmtool.libvirt.tpm_claims import measured_claim
from vmtool.libvirt.workers import guest_report
from vmtool.machine import Reader
from vmtool.proof.hardening import judge_status
from vmtool.proof.image import bytes_claim, read_promise
from vmtool.qemu.claims import UNVERIFIED
from vmtool.qemu.proof import cmdline_claim, qemu_claims, unchanged_claim
from vmtool.tee.table import BY_NAME

SECONDS = 30.0
VERIFIED = {"root", *DISKS}

Report = dict[str, list[str]]


def domain_claims(reader: Reader, instance: Instance, record: InstanceRecord, *,
                  whole: bool = False) -> tuple[Claim, ...]:
    """Look at the QEMU that runs now, and ask the guest.

    Args:
        whole: hash the image as well.
    """
    path = record.details["rendered"]
    text = reader.text(path)
    description = text or ""
    report = parse_report(_ask(reader, instance, record))
    return (*machine_claims(reader, record, instance.pid), unchanged_claim(path, text, record.details["configuration"]),
            *_image(reader, description, whole=whole),
            *(launch_claim(reader, instance, record, claim) if whole and claim.id == GUEST_TEE else claim
              for claim in guest_claims(report, record, description)),
            *([measured_claim(reader, instance, record, whole=whole)] if "tpm" in record.details else []))


def _ask(reader: Reader, instance: Instance, record: InstanceRecord) -> str | None:
    paths = instance.paths
    question = guest_report.Order(Path(record.details["channel"]), paths.pidfile, paths.console)
    answer = reader.run(p.question(question), deadline=SECONDS)
    return answer.out if answer and answer.status == 0 else None


def parse_report(text: str | None) -> Report | None:
    """The agent's lines by their first word; None when it did not answer."""
    if text is None:
        return None
    report: Report = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        report.setdefault(word, []).append(rest.strip())
    return report


def machine_claims(reader: Reader, record: InstanceRecord, launched: int | None) -> Iterator[Claim]:
    """What the QEMU that runs, and the disks that it was given, say on this host.

    Args:
        launched: the process that libvirt started for the launch.
    """
    yield _workload_claim(reader, record)
    description = reader.text(record.details["rendered"]) or ""
    emulated = not record.confidential and _described(description).get("type") == "qemu"
    for claim in qemu_claims(reader, record, domain_name(record.name), launched)[0]:
        if claim.id == "vm.kvm" and claim.verdict == "failed" and emulated:
            # Asked for where KVM runs no guests; a TEE exists with KVM only.
            yield Claim("vm.kvm", "not-checked", f"{claim.evidence}: emulated, since KVM runs no guests here; slow")
        else:
            yield claim


def _workload_claim(reader: Reader, record: InstanceRecord) -> Claim:
    """Whether the workload's disk is the one that was made of the image that was checked: a hard link of it."""
    made, disk = record.details.get("workload", ""), str(Path(record.details["rendered"]).with_name("workload.img"))
    output = reader.run(("stat", "--format=%d:%i", disk, made)) if made else None
    found = output.out.split() if output else []
    if len(found) != 2:
        return Claim("image.digest", "not-checked", f"{disk} and the disk that was made of the image were not compared")
    same = found[0] == found[1]
    return Claim("image.digest", "proven" if same else "failed", f"{record.image_digest} ({record.image_origin})"
                 if same else f"{disk} is not the disk that was made of {record.image_digest}")


def _image(reader: Reader, description: str, *, whole: bool) -> Iterator[Claim]:
    """The first disk is the guest's image; the others are made for each launch."""
    disk = _described(description).find("devices/disk/source")
    if disk is not None and (image := disk.get("file")):
        yield bytes_claim(reader, image, read_promise(reader, image), whole=whole)


def guest_claims(report: Report | None, record: InstanceRecord, description: str) -> Iterator[Claim]:
    """What the guest's own words settle; nothing when it did not answer."""
    if report is None:
        about = ("guest.tee", "guest.cmdline", "workload.hardening")
        for claim in (*about, "gpu.driver-in-guest") if record.devices else about:
            yield Claim(claim, "not-checked", f"the guest's agent did not answer within {SECONDS:.0f} s")
        return
    yield _tee(report, record)
    yield cmdline_claim(" ".join(report.get("cmdline", [])), _described(description).findtext("os/cmdline") or "")
    root = " ".join(report.get("root", []))
    yield Claim("guest.root-read-only", "proven" if "ro" in root.rpartition(" ")[2].split(",") else "failed",
                WORD + (root or "nothing"))
    if (disks := _disks(report)) or record.confidential:
        yield Claim("guest.disks", "proven" if disks >= VERIFIED else "failed",
                    f"{WORD}dm-verity over {', '.join(sorted(disks)) or 'none'} of {', '.join(sorted(VERIFIED))}")
    yield _hardening(report)
    if record.devices:
        yield _drivers(report, record.devices)
        yield _libraries(report)
    if cc := report.get("cc"):
        yield Claim("gpu.cc-status", "not-checked", f"{WORD}{'; '.join(cc)}")
    if hook := report.get("hook"):
        # The agent shows a hook that failed as well; its trace ends with the status (templates/rootfs/prestart-hook).
        yield Claim("guest.hook", "proven" if "status=0" in hook[-1].split() else "failed", f"{WORD}{hook[-1]}")


def _disks(report: Report) -> set[str]:
    """The disks that are read through dm-verity; the initramfs gave them these names and uuids."""
    return {words[0] for words in map(str.split, report.get("dm", []))
            if len(words) == 2 and words[1] == f"VERITY-{words[0]}"}


def _tee(report: Report, record: InstanceRecord) -> Claim:
    seen = [*report.get("node", []), *report.get("dmesg", [])]
    if not record.confidential:
        return Claim("guest.tee", "not-checked", f"none was asked for; {WORD}{'; '.join(seen) or 'no sign of one'}")
    node = BY_NAME[record.tee].guest_node
    if node not in report.get("node", []):
        return Claim("guest.tee", "failed", f"{WORD}there is no {node} in it")
    return Claim("guest.tee", "not-checked", f"{WORD}{'; '.join(seen)}; {UNVERIFIED}")


def _described(description: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(description)  # noqa: S314  (vmtool's own file)
    except ElementTree.ParseError:
        return ElementTree.Element("nothing")


def _hardening(report: Report) -> Claim:
    """/proc/PID/status of the workload's first process (proc(5))."""
    status = dict(line.split(": ", 1) for line in report.get("status", []) if ": " in line)
    if not status:
        return Claim("workload.hardening", "failed", f"{WORD}the workload is {' '.join(report.get('workload', []))}")
    verdict, reported = judge_status(status)
    return Claim("workload.hardening", verdict, WORD + reported)


def _drivers(report: Report, devices: Sequence[str]) -> Claim:
    """Each display device of the guest, with the driver that is bound to it there; their addresses are its own."""
    found = [line.split() for line in report.get("pci", [])]
    bound = sum(len(words) == 3 and words[2] == "nvidia" for words in found)
    reported = "; ".join(" ".join(words) for words in found) or "no display device"
    reported += "".join(f"; module {name}" for name in report.get("module", []))
    return Claim("gpu.driver-in-guest", "proven" if bound and bound == len(found) else "failed",
                 f"{WORD}{bound} bound to nvidia of {len(devices)} passed devices ({reported})")


def _libraries(report: Report) -> Claim:
    """What the workload got of the driver: without libcuda no engine finds a GPU."""
    given = report.get("library", [])
    return Claim("gpu.libraries", "proven" if "libcuda.so.1" in given else "failed",
                 f"{WORD}the workload has {', '.join(given) or 'no library'} of the guest's NVIDIA driver")
