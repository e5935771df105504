"""Genuine public evidence, which is beside the repository and not copied; and what tests of verifiers share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from vmtool.attest.appraisal import Appraisal
from vmtool.attest.facts import ROOTS
from vmtool.attest.recognise import appraise_file
from vmtool.attest.reference import Reference
from vmtool.attest.request import Request, Roots
from vmtool.attest.sort_collateral import sort_collateral

REPOSITORY = Path(__file__).parents[3]
FOUND = [each / "shared/data/vectors" for each in REPOSITORY.parents if (each / "shared/data/vectors").is_dir()]
needs_vectors = pytest.mark.skipif(not FOUND, reason="the public evidence is not beside the repository")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def vector(name: str) -> bytes:
    """A file of the vectors."""
    return (FOUND[0] / name).read_bytes()


def index(*kinds: str) -> list[dict[str, Any]]:
    """The entries of these kinds."""
    entries = json.loads(vector("index.json"))["vectors"] if FOUND else []
    return [entry for entry in entries if entry["kind"] in kinds]


@cache
def shipped_roots() -> Roots:
    """Those that come with vmtool."""
    return Roots({path.name: path.read_bytes() for path in ROOTS.iterdir()})


def request(*collateral: bytes, at: str | datetime = NOW, nonce: bytes | None = None, roots: Roots | None = None,
            **reference: Any) -> Request:
    """A request; `reference` has sections, such as snp={"max_vmpl": 1}."""
    time = datetime.fromisoformat(at) if isinstance(at, str) else at
    return Request(roots or shipped_roots(), time, sort_collateral((str(n), each) for n, each in enumerate(collateral)),
                   Reference.model_validate(reference), nonce)


def appraise(data: bytes, asked: Request) -> tuple[Appraisal, ...]:
    """As the command does."""
    return appraise_file(data, asked)


def is_accepted(data: bytes, asked: Request) -> bool:
    """Whether everything that is required is proven."""
    found = appraise_file(data, asked)
    return bool(found) and all(appraisal.verified for appraisal in found)


def unproven(data: bytes, asked: Request) -> list[str]:
    """Ids of what is required and not proven."""
    return [name for appraisal in appraise_file(data, asked) for name in appraisal.unproven]


def flipped(data: bytes, places: Sequence[int], mask: int = 1) -> Iterator[tuple[int, bytes]]:
    """The data with one byte changed, for each place."""
    for place in places:
        yield place, data[:place] + bytes((data[place] ^ mask,)) + data[place + 1:]


# Every place costs milliseconds: a spread of them at each run, all of them with the slow tests.
FLIPS = pytest.mark.parametrize(("mask", "step"), [(0x01, 29), (0x80, 31), *(
    pytest.param(mask, 1, marks=pytest.mark.slow) for mask in (0x01, 0x20, 0x80))])

# What parsers of lengths and of nested values stumble over.
INTERESTING = (b"", b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x9b" + b"\xff" * 8, b"\xbf", b"[" * 40, b"{",
               b"\x00" * 64)


# Where, how many bytes are cut out, and what is put in.
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12) | st.sampled_from(INTERESTING)),
                 min_size=1, max_size=4)


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes cut out and put in at some places."""
    for place, size, new in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + size:]
    return data
