"""Reading what goes into a bundle out of an instance's directory, and what must not."""

from __future__ import annotations

from pathlib import Path

from vmtool.attest.bundle_form import MOST_BYTES
from vmtool.bundle.archive import MOST_MEMBERS
from vmtool.bundle.contents import FACTS, JOURNAL, PLAN, RECORD, RENDERED, SPEC
from vmtool.errors import VmtoolError
from vmtool.foreign import read_regular
from vmtool.instance.instance import InstanceRecord, Paths
from vmtool.proof.evidence import is_regular, regular_files
from vmtool.spec.runtime import Spec

# Everything else of the directory stays: secrets, tokens, logs, marks.
OF_LAUNCH = (RECORD, SPEC, PLAN, FACTS)
FILES = (*OF_LAUNCH, JOURNAL, "reference.yaml")
FOLDERS = ("net", "kata", "reference", "evidence")
# Put together of the other secrets; it has public certificates in base64 as well.
ACCESS = "access"


def read_members(paths: Paths, record: InstanceRecord) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files that claims about an instance rest on, by the member's name; and by the same name where those lie
    that are outside of its directory.

    Raises:
        VmtoolError: they are more or larger than a bundle's.
    """
    found = {name: (paths.place if name in OF_LAUNCH else paths.directory) / name for name in FILES}
    for folder in FOLDERS:
        found |= {str(path.relative_to(paths.place)): path for path in regular_files(paths.place / folder)}
    rendered = Path(record.details.get("rendered", ""))
    outside = {}
    if rendered.is_absolute() and not rendered.is_relative_to(paths.place):
        outside = {f"{RENDERED}/{rendered.name}": str(rendered)}
        found |= {name: Path(path) for name, path in outside.items()}
    members = read_all(found)
    return members, {name: path for name, path in outside.items() if name in members}


def read_secrets(paths: Paths, spec: bytes) -> dict[str, bytes]:
    """The instance's secrets, by the name of their file, and those that its spec names, as far as they are there.

    Raises:
        ValueError: that is no spec.
    """
    own = {str(path.relative_to(paths.directory)): path for secret in {paths.key.parent, paths.access.parent}
           for path in regular_files(secret) if path.name != ACCESS}
    return read_all(own | {path: Path(path) for path in Spec.model_validate_json(spec).secret_files})


def read_all(found: dict[str, Path]) -> dict[str, bytes]:
    """The content of those that are regular files."""
    members: dict[str, bytes] = {}
    left = MOST_BYTES
    for name, path in found.items():
        if is_regular(path):
            members[name] = read_regular(path, left + 1)
            left -= len(members[name])
        if left < 0 or len(members) > MOST_MEMBERS:
            raise VmtoolError(f"{path}: with it there are more than {MOST_MEMBERS} files or {MOST_BYTES >> 20} MiB, "
                              "too many for a bundle")
    return members
