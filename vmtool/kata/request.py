"""From a spec and a look at the host to what shall be rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmtool.architecture import AMD64
from vmtool.findings import Finding
from vmtool.kata.check import check_host, check_request
from vmtool.kata.facts import GuestFacts, Target, read_guest, read_target
from vmtool.kata.values import Asked
from vmtool.machine import Reader
from vmtool.spec.kata import KataSpec
from vmtool.spec.kata_releases import USUAL, Release, release_like, release_of
from vmtool.spec.runtime import Body
from vmtool.tee.table import tee_of
from vmtool.tee.virtcca import VIRTCCA


@dataclass(frozen=True)
class Survey:
    """What is asked for, and what is there for it."""

    asked: Asked
    target: Target
    guest: GuestFacts

    def check_request(self) -> tuple[Finding, ...]:
        """What is wrong with the spec on any host."""
        return tuple(check_request(self.asked))

    def check_host(self) -> tuple[Finding, ...]:
        """What this host lacks."""
        return tuple(check_host(self.asked, self.target, self.guest))


def survey(reader: Reader, body: Body, target: Target | None = None, gpus: int | None = None) -> Survey:
    """Look at what this spec needs.

    Args:
        target: of this host, when it was read already.
        gpus: devices, when it is known better than from the spec's count.
    """
    target = target or read_target(reader)
    wanted = body.resources.accelerators
    count = gpus if gpus is not None else max(wanted.count, len(wanted.bdf))
    release = choose_release(body.runtime.kata, body.runtime.tee, target)
    asked = Asked(body, release, _arch(body, release, target), count, body.runtime.kata.verity)
    guest = read_guest(reader, asked.assets, asked.hook_path)
    verity = asked.verity or (guest.verity if release.verity else "")
    return Survey(replace(asked, verity=verity, filesystem=guest.filesystem), target, guest)


def choose_release(kata: KataSpec, tee: str, target: Target) -> Release:
    """The spec's, else the installed shim's, else what the TEE is usually run with."""
    if kata.version != "auto":
        return release_of(kata.version)
    shim, known = target.shim, tee_of(tee)
    found = release_like(shim.version, bool(shim.knows_virtcca)) if shim else None
    return found or release_of(known.kata.release if known else USUAL)


def _arch(body: Body, release: Release, target: Target) -> str:
    """The TEE's, else the release's, else this host's."""
    known = tee_of(body.runtime.tee)
    patched = VIRTCCA.architecture.machine if release.name.endswith(VIRTCCA.name) else ""
    return (known.architecture.machine if known else "") or patched or target.arch or AMD64.machine
