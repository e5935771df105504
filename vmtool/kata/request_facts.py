"""From a spec and a look at the host to what shall be rendered."""

from __future__ import annotations

from dataclasses import replace

from vmtool.architecture import AMD64
from vmtool.findings import Finding
from vmtool.frozen import dataclass
from vmtool.kata.base import Base, installed_base, known_base
from vmtool.kata.check import check_host, check_request, check_shim
from vmtool.kata.facts import GuestFacts, Target, read_guest, read_target
from vmtool.kata.request import KataRequest
from vmtool.machine import Reader
from vmtool.spec.kata import KataSpec
from vmtool.spec.kata_releases import PATCHED, USUAL, Release, release_of
from vmtool.spec.runtime import Body
from vmtool.tee.table import tee_of
from vmtool.tee.virtcca import VIRTCCA


@dataclass(frozen=True)
class KataRequestFacts:
    """What is asked for, and what is there for it."""

    request: KataRequest
    target: Target
    guest: GuestFacts

    def check_request(self) -> tuple[Finding, ...]:
        """What is wrong with the spec on any host, and with the release that this host has."""
        return (*check_shim(self.request, self.target), *check_request(self.request))

    def check_host(self) -> tuple[Finding, ...]:
        """What this host lacks."""
        return tuple(check_host(self.request, self.target, self.guest))


def read_request(reader: Reader, body: Body, target: Target | None = None, gpus: int | None = None) -> KataRequestFacts:
    """Look at what this spec needs.

    Args:
        target: of this host, when it was read already.
        gpus: devices, when it is known better than from the spec's count.

    Raises:
        Refused: the release's configuration on this host is none.
    """
    target = target or read_target(reader)
    wanted = body.resources.accelerators
    count = gpus if gpus is not None else max(wanted.count, len(wanted.bdf))
    release = choose_release(body.runtime.kata, body.runtime.tee, target)
    arch = _arch(body, release, target)
    base = _base(reader, body, release, arch, target, count)
    request = KataRequest(body, release, arch, count, base, body.runtime.kata.verity)
    guest = read_guest(reader, request.assets, request.hook_path)
    verity = request.verity or (guest.verity if release.verity else "")
    return KataRequestFacts(replace(request, verity=verity, filesystem=guest.filesystem), target, guest)


def choose_release(kata: KataSpec, tee: str, target: Target) -> Release:
    """The spec's, else the installed shim's, else what the TEE is usually run with."""
    if kata.version != "auto":
        return release_of(kata.version)
    known = tee_of(tee)
    return target.release or release_of(known.kata.release if known else USUAL)


def _base(reader: Reader, body: Body, release: Release, arch: str, target: Target, gpus: int) -> Base | None:
    """The installed file, where this host has this very release; else what the release's archive has."""
    name, prefix = release.configuration(body.runtime.tee, gpus), body.runtime.kata.prefix
    if name is None:
        return None
    here = target.release
    found = None
    if here and (here.name, here.version) == (release.name, release.version) and arch == target.arch:
        found = installed_base(reader, release, name, prefix)
    return found or (None if release.newer else known_base(release, name, arch, prefix))


def _arch(body: Body, release: Release, target: Target) -> str:
    """The TEE's, else the release's, else this host's."""
    known = tee_of(body.runtime.tee)
    patched = VIRTCCA.architecture.machine if release.name.endswith(PATCHED) else ""
    return (known.architecture.machine if known else "") or patched or target.arch or AMD64.machine
