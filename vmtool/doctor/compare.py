"""What differs between two documents of `vmtool doctor --json`: a good host's and this one's."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.foreign import parse_json, read_regular
from vmtool.frozen import dataclass

SCHEMA = "vmtool/v1"
KIND = "doctor"
LIMIT = 16 << 20
# What differs between any two looks, also at one and the same good host: amounts in use, times, and who is on the
# network. A finding's level says whether such an amount is a problem; its detail repeats the amount.
PASSING = (
    "facts.is_root", "facts.memory.available", "facts.memory.hugepages_free", "facts.disk.free", "facts.disk.path",
    "facts.disk.existing", "facts.kvm.seconds", "facts.kvm.evidence*", "facts.tee.*.evidence*",
    "facts.network.routes*", "facts.network.addresses*", "facts.network.links*", "facts.network.bridges*",
    "facts.network.leases*", "facts.network.netns*", "facts.network.chains*", "facts.network.published*",
    "facts.network.listeners*", "facts.network.ours*", "facts.network.attached*", "facts.network.our_leases*",
    "findings.*.detail", "findings.*.hint", "findings.*.title", "findings.*.id",
)
ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """One path with its value there (`theirs`) and here (`ours`), each as JSON text or `ABSENT`."""

    path: str
    theirs: str
    ours: str


def read_document(path: Path) -> dict[str, Any]:
    """An earlier `vmtool doctor --json`.

    Raises:
        Refused: it cannot be read, is too large, is not JSON or not such a document.
    """
    hint = "make one on the good host: vmtool doctor --json > FILE"
    try:
        data = read_regular(path, LIMIT + 1)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}", hint=hint) from error
    if len(data) > LIMIT:
        raise Refused(f"{path} is larger than {LIMIT >> 20} MiB, so it is no document of vmtool doctor", hint=hint)
    try:
        document = parse_json(data)
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {str(error)[:200]}", hint=hint) from error
    problem = _problem(document)
    if problem:
        raise Refused(f"{path} is not a document of vmtool doctor: {problem}", hint=hint)
    checked: dict[str, Any] = document
    return checked


def _problem(document: Any) -> str:
    if not isinstance(document, dict):
        return "not an object"
    if document.get("schema") != SCHEMA:
        return f"its schema is {str(document.get('schema'))[:40]!r}, not {SCHEMA!r}"
    if document.get("kind") != KIND:
        return f"its kind is {str(document.get('kind'))[:40]!r}, not {KIND!r}"
    if not isinstance(document.get("facts"), dict):
        return "it has no facts"
    findings = document.get("findings")
    if not isinstance(findings, list) or not all(isinstance(item, dict) and "id" in item for item in findings):
        return "it has no findings"
    return ""


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> tuple[Difference, ...]:
    """Every path whose values differ, except `PASSING` ones, in the order of the paths."""
    before, after = dict(_leaves(_by_id(theirs), "")), dict(_leaves(_by_id(ours), ""))
    return tuple(Difference(path, before.get(path, ABSENT), after.get(path, ABSENT))
                 for path in sorted(before.keys() | after.keys())
                 if before.get(path) != after.get(path) and not any(fnmatch.fnmatchcase(path, p) for p in PASSING))


def _by_id(document: dict[str, Any]) -> dict[str, Any]:
    """Findings by their id, so that one more or less does not shift the others."""
    kept = {key: document.get(key) for key in ("purpose", "tee", "facts")}
    return kept | {"findings": {str(item["id"]): item for item in document["findings"]}}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Path and JSON text of every scalar; lists of scalars are one leaf, since their members have no names."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)
