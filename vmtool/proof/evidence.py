"""What is kept of a look at an instance: its claims, with the SHA-256 of every file that they rest on."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vmtool.claims import Claim, unmet
from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json
from vmtool.host import files, locks
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.paths import State

SCHEMA = "vmtool/evidence/v1"
DEEPEST = 8


def evidence_text(record: InstanceRecord, claims: Sequence[Claim], digests: Mapping[str, str], at: float) -> str:
    """The document.

    Args:
        digests: SHA-256 by path, relative to the instance's directory where it lies in there.
        at: seconds since the epoch.
    """
    document = {
        "schema": SCHEMA,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "instance": record.name, "handler": record.handler, "tee": record.tee, "spec": record.digest,
        "claims": [vars(claim) for claim in claims],
        "unmet": unmet(claims, confidential=record.confidential),
        "files": dict(sorted(digests.items())),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def keep_evidence(state: State, instance: Instance, claims: Sequence[Claim], doing: str,
                  keep: Callable[[], None] = lambda: None) -> Path:
    """Write the claims to the instance's evidence/proof.json, in the place of an earlier look's.

    Args:
        keep: writes what else the look has seen; called under the instance's lock.

    Raises:
        NotReady: another vmtool is at work on the instance.
        VmtoolError: it was removed since.
    """
    directory, path = instance.paths.directory, instance.paths.proof
    with locks.Lock(state.lock(directory), doing):
        if not directory.is_dir():
            raise VmtoolError(f"{instance.name} was removed in the meantime", hint="vmtool ps")
        keep()
        digests = dict(evidence_digests(instance.paths, instance.known()))
        files.write(path, evidence_text(instance.known(), claims, digests, time.time()))
    return path


def read_evidence(instance: Instance) -> tuple[Claim, ...]:
    """The claims of the newest whole verification, as vmtool wrote them down."""
    document = parse_json(instance.paths.proof.read_text())
    return tuple(Claim(**claim) for claim in document["claims"])


def evidence_digests(paths: Paths, record: InstanceRecord) -> Iterator[tuple[str, str]]:
    """What was asked for, planned, rendered and seen; neither secrets nor logs, which go on growing."""
    rendered = [paths.record, paths.spec, paths.plan, paths.plan.with_name("facts.json"),
                *regular_files(paths.network)]
    outside = [Path(record.details["rendered"])] if "rendered" in record.details else []
    for path in (*rendered, *regular_files(paths.evidence), *outside):
        if is_regular(path) and path != paths.proof:
            inside = path.is_relative_to(paths.place)
            yield (str(path.relative_to(paths.place)) if inside else str(path),
                   hashlib.sha256(path.read_bytes()).hexdigest())


def regular_files(directory: Path, depth: int = 0) -> Iterator[Path]:
    """The files in a folder and in those below it; no links, and nothing that a killed write left."""
    try:
        names = files.names(str(directory)) if depth < DEEPEST and not directory.is_symlink() else ()
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = directory / name
        if is_regular(path):
            yield path
        else:
            yield from regular_files(path, depth + 1)


def is_regular(path: Path) -> bool:
    """Whether it is a file, and no link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
