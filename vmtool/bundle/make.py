"""Making a bundle: everything that the claims rest on, none of the secrets, and not before it verifies."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool import __version__
from vmtool.attest.appraisal import NotProven
from vmtool.bundle.archive import pack
from vmtool.bundle.chain import sealed
from vmtool.bundle.claims import Origin, appraise_bundle
from vmtool.bundle.contents import CLAIMS, HEAD, OBSERVED, SCHEMA, SPEC, Head
from vmtool.bundle.facts import read_members, read_secrets
from vmtool.bundle.leaks import find_leaks
from vmtool.bundle.observed import ObservingReader, observed_text
from vmtool.bundle.opened import Derive, OpenedBundle
from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json
from vmtool.host import locks
from vmtool.instance.instance import Instance
from vmtool.paths import State
from vmtool.records import record_text


def make_bundle(state: State, instance: Instance, observed: ObservingReader, derive: Derive, doing: str) -> bytes:
    """The bundle of the newest kept claims about an instance.

    Args:
        observed: what the machine answered while they were made; derive makes them again.

    Raises:
        VmtoolError: a secret would be in it, or it does not verify.
        NotReady: another vmtool is at work on the instance.
    """
    name = instance.name
    with locks.Lock(state.lock(instance.paths.directory), doing):
        members, outside = read_members(instance.paths, instance.known())
        if CLAIMS not in members or SPEC not in members:
            raise VmtoolError(f"{name} was removed in the meantime", hint="vmtool ps")
        secrets = read_secrets(instance.paths, members[SPEC])
    head = Head(SCHEMA, __version__, name, str(parse_json(members[CLAIMS])["at"]), str(instance.paths.place),
                instance.state, instance.pid, outside)
    members[OBSERVED] = observed_text(observed.answers, head.files(members)).encode()
    members[HEAD] = record_text(head).encode()
    _refuse_leaks(name, secrets, members)
    try:
        data = pack(sealed(members))
    except NotProven as error:
        raise VmtoolError(f"{name}: no bundle can be made: {error}") from error
    _require_consistent(name, OpenedBundle(sealed(members), derive))
    return data


def _refuse_leaks(name: str, secrets: Mapping[str, bytes], members: Mapping[str, bytes]) -> None:
    if leaks := find_leaks(secrets, members):
        raise VmtoolError(f"{name}: no bundle was made, since a secret would be in it",
                          details=[*leaks, "what an earlier vmtool put there is written again by the next start"],
                          hint=f"vmtool stop {name}, then: vmtool start {name}")


def _require_consistent(name: str, opened: OpenedBundle) -> None:
    """What whoever gets it would find, is found here. Claims that failed are not wrong: they are what was seen."""
    appraisal = appraise_bundle(opened, Origin())
    if not appraisal.verified:
        raise VmtoolError(f"{name}: no bundle was made, since it would be refused", hint=f"vmtool status {name}",
                          details=[f"{claim.id}: {claim.evidence}" for claim in appraisal.claims
                                   if claim.id in appraisal.unproven])
