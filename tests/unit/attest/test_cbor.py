"""Strict CBOR: one form for each value, and no input that ends otherwise than with a value or a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.attest.make_cca import cbor
from vmtool.attest.appraisal import NotProven
from vmtool.attest.cbor import decode, encode_octets

VALUES = st.recursive(
    st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=70) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 300) | st.text(max_size=3), inner,
                                                                max_size=4), max_leaves=12)


@given(VALUES)
def test_what_is_encoded_comes_back(value: Any) -> None:
    data = cbor(value)
    try:
        assert decode(data) == value
    except NotProven as error:
        assert "too deep" in str(error)


@given(st.binary(max_size=60))
def test_any_bytes_are_one_value_in_its_only_form_or_refused(data: bytes) -> None:
    try:
        assert cbor(decode(data)) == data
    except (NotProven, UnicodeDecodeError):
        pass


@pytest.mark.parametrize("octets", [b"", b"a" * 23, b"a" * 24, b"a" * 255, b"a" * 256, b"a" * 65536])
def test_lengths_at_their_borders(octets: bytes) -> None:
    assert decode(encode_octets(octets)) == octets
    assert encode_octets(octets) == cbor(octets)


@pytest.mark.parametrize("text", [
    "", "18", "1817", "190017", "1900ff", "1a0000ffff", "1b00000000ffffffff",  # not the shortest, or cut
    "5f4161ff", "9f01ff", "bf0102ff", "7f6161ff",  # indefinite
    "1c", "1d", "1e", "1f", "fc",  # reserved
    "0000", "4000", "a000",  # more than one item
    "a2010201 03", "a261610161 6102", "a10102 00", "a1410102", "a1810102",  # keys: twice, or no number or text
    "c000", "c11a00000000", "c482010a", "d81c00", "d9d9f700",  # tags
    "f4", "f5", "f6", "f7", "f90000", "fa00000000", "fb0000000000000000",  # simple values and floats
    "5bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff", "9a7fffffff", "5affffffff00",  # huge
    "61ff", "62c328",  # no text
    "81" * 10 + "00", "81" * 100_000,  # deep
])
def test_what_is_refused(text: str) -> None:
    with pytest.raises((NotProven, UnicodeDecodeError)):
        decode(bytes.fromhex(text))


def test_many_items_are_refused() -> None:
    assert len(decode(cbor([0] * 4000))) == 4000
    with pytest.raises(NotProven, match="too many"):
        decode(cbor([0] * 5000))


def test_a_tag_must_be_the_one_that_was_asked_for() -> None:
    assert decode(bytes.fromhex("d9018f00"), (399,)) == 0
    for other in ("00", "d9038b00", "d9018fd9018f00", "da0000018f00"):
        with pytest.raises(NotProven):
            decode(bytes.fromhex(other), (399,))
