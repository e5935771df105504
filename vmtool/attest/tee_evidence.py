"""The evidence of a launch's own guest, as the worker that asked for it prints it and as it is kept."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmtool.attest.facts import read_file
from vmtool.attest.reference import read_reference, sections
from vmtool.attest.server.answer import ServerEvidence
from vmtool.attest.sort_collateral import sort_collateral
from vmtool.attest.tee_files import REFERENCE, Files
from vmtool.errors import Refused
from vmtool.machine import Host

MOST_FILES = 64
NOT_COMPUTED = "# not computed: "


def print_answer(host: Host, files: Files, data: bytes, answer: ServerEvidence) -> None:
    """Print all that the claim rests on.

    Raises:
        Refused: a file is none.
    """
    collateral, ignored = _collateral(host, files.collateral)
    print(json.dumps({
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "nonce": answer.nonce.hex(), "key": answer.key.hex(),
        "answer": data.decode(), **_expected(host, files), "collateral": {
            name: base64.b64encode(content).decode() for name, content in collateral.items()}, "ignored": ignored}))


def _collateral(host: Host, directory: Path) -> tuple[dict[str, bytes], list[str]]:
    """The files by name, and why others are none: a note that lies there contradicts nothing."""
    names = host.names(str(directory)) if host.exists(str(directory)) else ()
    if len(names) > MOST_FILES:
        raise Refused(f"{directory}: {len(names)} files, of which {MOST_FILES} are read at most")
    found, ignored = {}, []
    for name in names:
        try:
            data = read_file(host, directory / name)
        except Refused as error:
            ignored.append(error.message)
            continue
        if problems := sort_collateral([(name, data)]).problems:
            ignored += problems
        else:
            found[name] = data
    return found, ignored


def _expected(host: Host, files: Files) -> dict[str, Any]:
    path = files.evidence / REFERENCE
    reference = read_reference(path)
    text = read_file(host, path).decode()
    missing = [line.removeprefix(NOT_COMPUTED) for line in text.splitlines() if line.startswith(NOT_COMPUTED)]
    values = getattr(reference, files.tee).model_dump(mode="json", exclude_unset=True) if (
        files.tee in sections(reference)) else {}
    return {"expected": values, "missing": missing}
