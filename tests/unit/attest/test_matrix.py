"""Every public piece of evidence against every kind of edit of every region of it: whatever was changed is refused.

Each place is tried with the slow tests, a spread of them at each run.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from tests.unit.attest.cases import NOW, index, is_accepted, needs_vectors, request, vector
from vmtool.attest.certificates import load_certificates
from vmtool.attest.request import Request, Roots

pytestmark = needs_vectors


@dataclass(frozen=True)
class Region:
    """Bytes of evidence, and how a verifier is given them.

    Args:
        text: line breaks of it say nothing; digits: nor whether hexadecimal ones are small or large letters.
        padded: zeros may follow.
        bag: of certificates in any order, of which not every one is needed.
    """

    data: bytes
    given: Callable[[bytes], tuple[bytes, Request]]
    text: bool = False
    digits: bool = False
    padded: bool = False
    bag: bool = False

    def accepts(self, data: bytes) -> bool:
        return is_accepted(*self.given(data))

    def same(self, data: bytes) -> bool:
        """Whether it says the very same."""
        if self.bag:
            with contextlib.suppress(Exception):
                return set(load_certificates(data)) <= set(load_certificates(self.data))
        one, other = (found.rstrip(b"\0") if self.padded else found for found in (self.data, data))
        return one == other or (self.digits and one.lower() == other.lower()) or (
            self.text and b"".join(one.split()) == b"".join(other.split()))


def _snp(entry: dict[str, Any]) -> dict[str, Region]:
    at, reference = entry.get("at", NOW), {"max_vmpl": entry.get("max_vmpl", 0)}
    report, vek, above = (vector(entry[name]) for name in ("report", "vek", "ca"))
    return {"report": Region(report, lambda data: (data, request(vek, at=at, snp=reference))),
            "certificate": Region(vek, lambda data: (report, request(data, at=at, snp=reference))),
            "authorities": Region(above, lambda data: (report, request(vek, data, at=at, snp=reference)), bag=True)}


def _tdx(entry: dict[str, Any]) -> dict[str, Region]:
    quote, collateral = vector(entry["quote"]), vector(entry["collateral"])
    values = json.loads(collateral)

    def part(name: str) -> Region:
        def given(data: bytes) -> tuple[bytes, Request]:
            changed = json.dumps(values | {name: data.decode("latin-1")}).encode()
            return quote, request(changed, at=entry["at"])
        return Region(values[name].encode(), given, text=name.endswith("chain"),
                      digits=name.endswith(("crl", "signature")))
    return {"quote": Region(quote, lambda data: (data, request(collateral, at=entry["at"])), text=True, padded=True),
            **{name: part(name) for name in values if name != "pck_certificate_chain" and values[name]}}


def _cca(entry: dict[str, Any]) -> dict[str, Region]:
    roots = Roots({"cca-key.json": vector(entry["platform_key"])})
    return {"token": Region(vector(entry["token"]), lambda data: (data, request(roots=roots)))}


def _nvidia(entry: dict[str, Any]) -> dict[str, Region]:
    if "evidence" not in entry:
        report, chain = bytes.fromhex(vector(entry["report"]).decode().strip()), vector(entry["chain"])
        return {"report": Region(report, lambda data: (data, request(chain))),
                "chain": Region(chain, lambda data: (report, request(data)), text=True)}
    document = json.loads(vector(entry["evidence"]))
    [item] = document if isinstance(document, list) else [document]

    def part(name: str, *, text: bool = False) -> Region:
        return Region(base64.b64decode(item[name]), lambda data: (json.dumps(
            [item | {name: base64.b64encode(data).decode()}]).encode(), request()), text=text)
    return {"report": part("evidence"), "chain": part("certificate", text=True)}


def _rim(entry: dict[str, Any]) -> dict[str, Region]:
    data = vector(entry["rim"])
    [first] = load_certificates(base64.b64decode(data.split(b"X509Certificate>")[1].partition(b"<")[0]))
    at = first.not_valid_before_utc + timedelta(days=30)
    return {"manifest": Region(data, lambda changed: (changed, request(at=at)), text=True)}


def _json(entry: dict[str, Any]) -> dict[str, Region]:
    return {"json": Region(vector(entry["file"]), lambda data: (data, request()), text=True)}


KINDS: dict[str, Callable[[dict[str, Any]], dict[str, Region]]] = {
    "sev-snp": _snp, "tdx": _tdx, "arm-cca": _cca, "nvidia": _nvidia, "nvidia-hex": _nvidia, "rim": _rim,
    "trustee-evidence": _json}


@cache
def regions() -> dict[str, Region]:
    """Of all evidence that is genuine."""
    return {f"{entry['id']}-{name}": region for entry in index(*KINDS) if entry["expect"] == "accept"
            for name, region in KINDS[entry["kind"]](entry).items()}


def _at(data: bytes, place: int, new: bytes, size: int = 1) -> bytes:
    return data[:place] + new + data[place + size:]


EDITS: dict[str, Callable[[bytes, int], bytes]] = {
    **{f"flip-{1 << bit:#04x}": lambda data, place, bit=bit: _at(  # type: ignore[misc]
        data, place, bytes((data[place] ^ 1 << bit,))) for bit in range(8)},
    "zero": lambda data, place: _at(data, place, b"\0"), "ones": lambda data, place: _at(data, place, b"\xff"),
    "remove": lambda data, place: _at(data, place, b""), "insert": lambda data, place: _at(data, place, b"\0", 0),
    "repeat": lambda data, place: data[:place + 1] + data[place:],
    "swap": lambda data, place: _at(data, place, data[place:place + 2][::-1], 2),
    "blank": lambda data, place: _at(data, place, bytes(16), 16), "cut": lambda data, place: data[:place],
    "cut-front": lambda data, place: data[place + 1:],
}
MORE = (b"\0", b"\1", b"\xff", b"\n", b" ", bytes(512), b"0", b"}", b"<a/>")


# At each place where the bytes themselves are signed; of texts, whose verification takes long, at many.
WHOLE = ("flip-0x01", "flip-0x80", "cut")


def edited(region: Region, places: int, whole: bool = False) -> Iterator[tuple[str, int, bytes]]:
    """Each kind of edit at so many places, which are others for each kind; and what is added at the end."""
    size = len(region.data)
    for number, (kind, edit) in enumerate(EDITS.items()):
        text = region.text or region.bag or region.digits
        step = max(1, size // ((10 * places if text else size) if whole and kind in WHOLE else places))
        for place in range(number * size // len(EDITS) % step, size, step):
            yield kind, place, edit(region.data, place)
    yield from (("extend", size, region.data + more) for more in (*MORE, region.data))


@pytest.mark.parametrize("name", regions())
def test_whatever_was_changed_is_refused(name: str) -> None:
    """A third of the edits of each region."""
    region = regions()[name]
    assert region.accepts(region.data)
    few = list(edited(region, 1))[list(regions()).index(name) % 3::3]
    assert [(kind, place) for kind, place, data in few if not region.same(data) and region.accepts(data)] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", regions())
def test_whatever_was_changed_anywhere_is_refused(name: str) -> None:
    region = regions()[name]
    assert [(kind, place) for kind, place, data in edited(region, 40, whole=True)
            if not region.same(data) and region.accepts(data)] == []
