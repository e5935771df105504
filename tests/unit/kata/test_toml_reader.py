"""A file is read as the Go runtime's own TOML reader reads it: what that one said of some 1,800 files was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmtool.errors import Refused
from vmtool.findings import failing
from vmtool.kata.document import parse
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.target import LintTarget
from vmtool.spec.kata_releases import release_of

RECORDED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "kata" / "toml-reader.json").read_text())
# What the reader itself refuses; other rules are about what the runtime does with what it read.
READING = {"type.wrong", "type.range", "section.scalar"}


def refused(text: str) -> str:
    """Why the file is no configuration; empty when it can be read."""
    release = release_of("4.1")
    try:
        document = parse(text, "f", "1.0", release.keys)
    except Refused as error:
        return error.message
    return "; ".join(item.id for item in failing(lint(LintTarget(document, release))) if item.id in READING)


@pytest.mark.parametrize("verdict", ["taken", "refused"])
def test_each_file_is_taken_or_refused_as_by_the_runtime(verdict: str) -> None:
    files = [file.replace("{B}", RECORDED["before"]).replace("{E}", RECORDED["after"]) for file in RECORDED[verdict]]
    assert len(files) > 500
    assert not [file for file in files if bool(refused(file)) != (verdict == "refused")]


@pytest.mark.parametrize("text", [
    "zzz = 9223372036854775808\n", "[zzz]\nx = 0x8000000000000000\n", "[zzz]\nx = [1, [18446744073709551616]]\n",
    "[agent]\nx = 9223372036854775808\n", "[runtime.sub]\nx = {y = -9223372036854775809}\n",
    "[hypervisor.qemu]\nzzz = [9223372036854775808]\n", "[[zzz]]\nx = 9223372036854775808\n",
])
def test_a_number_beyond_64_bits_is_an_error_wherever_it_is(text: str) -> None:
    release = release_of("4.1")
    findings = [item for item in lint(LintTarget(parse(text, "f", "1.0", release.keys), release))
                if item.id == "type.range"]
    assert [item.level for item in findings] == ["fail"]
    assert findings[0].place.startswith("f:")
