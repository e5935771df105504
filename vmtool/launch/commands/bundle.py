"""Bundles of launches: one is written by `vmtool status --proof -o`, and checked by `vmtool attest verify`."""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.attest.appraisal import Appraisal, describe, refused
from vmtool.attest.request import Request
from vmtool.bundle.archive import unpack
from vmtool.bundle.chain import root_of
from vmtool.bundle.claims import LABEL, LAUNCH, Origin, appraise_bundle, appraise_launch
from vmtool.bundle.evidence import appraise_evidence
from vmtool.bundle.make import make_bundle
from vmtool.bundle.observed import ObservingReader
from vmtool.bundle.opened import OpenedBundle
from vmtool.errors import Refused, shell_word
from vmtool.host import files
from vmtool.instance.instance import Instance
from vmtool.launch.claims import read_whole_claims
from vmtool.paths import State

TITLE = "bundle"


def require_new(path: Path) -> None:
    """Nothing that is there is replaced.

    Raises:
        Refused: something has that name, or there is no such directory.
    """
    if os.path.lexists(path):
        raise Refused(f"{path}: it is there already", hint="name another file")
    if not path.absolute().parent.is_dir():
        raise Refused(f"{path}: there is no such directory", hint=f"mkdir -p {shell_word(path.absolute().parent)}")


def write_bundle(state: State, instance: Instance, observed: ObservingReader, doing: str, path: Path) -> str:
    """Write the bundle of the claims that were just kept; its root.

    Raises:
        Refused: something has that name already.
        VmtoolError: none can be made, or written.
    """
    data = make_bundle(state, instance, observed, read_whole_claims, doing)
    try:
        files.write_new(path.absolute(), data)
    except FileExistsError as error:
        raise Refused(f"{path}: it is there already", hint="name another file") from error
    return root_of(unpack(data))


def appraise(data: bytes, request: Request, digest: str | None) -> tuple[Appraisal, ...]:
    """All that is claimed about a bundle, the launch that it is of, and the evidence in it.

    Args:
        digest: root that it must have.
    """
    try:
        opened = OpenedBundle(unpack(data), read_whole_claims)
    except BaseException as error:
        return (refused(LABEL, TITLE, describe(error)),)
    try:
        evidence, bound = appraise_evidence(opened.members, request)
        bundle = appraise_bundle(opened, Origin(digest, bound))
        return bundle, _launch(opened), *evidence
    except BaseException as error:
        return (refused(LABEL, TITLE, describe(error)),)


def _launch(opened: OpenedBundle) -> Appraisal:
    try:
        return appraise_launch(opened)
    except BaseException as error:
        return refused(LAUNCH, LAUNCH, describe(error))
