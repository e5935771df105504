"""Other encodings of the same content, which DER (X.690) forbids: made by tests."""

from __future__ import annotations

from collections.abc import Iterator

Node = tuple[int, "list[Node] | bytes"]
INTEGER, BITS, BOOLEAN, CONSTRUCTED = 2, 3, 1, 0x20


def read(data: bytes) -> list[Node]:
    """Its elements, as deep as they are constructed."""
    found: list[Node] = []
    while data:
        size, start = data[1], 2
        if size & 0x80:
            start += size & 0x7f
            size = int.from_bytes(data[2:start], "big")
        content = data[start:start + size]
        found.append((data[0], read(content) if data[0] & CONSTRUCTED else content))
        data = data[start + size:]
    return found


def _lengths(size: int) -> Iterator[bytes]:
    """The right length first, then longer forms of it."""
    short = size.to_bytes(max(1, (size.bit_length() + 7) // 8), "big")
    yield bytes((size,)) if size < 0x80 else bytes((0x80 | len(short),)) + short
    for more in range(1 if size >= 0x80 else 0, 3):
        yield bytes((0x80 | len(short) + more,)) + bytes(more) + short


def write(node: Node) -> bytes:
    kind, content = node
    data = content if isinstance(content, bytes) else b"".join(map(write, content))
    return bytes((kind,)) + next(_lengths(len(data))) + data


def variants(node: Node) -> Iterator[bytes]:
    """The element in each form that one change gives: of a length, to an indefinite one, a padded number, odd bits."""
    kind, content = node
    if isinstance(content, list):
        inner = [write(each) for each in content]
        for place, each in enumerate(content):
            for form in variants(each):
                data = b"".join((*inner[:place], form, *inner[place + 1:]))
                yield bytes((kind,)) + next(_lengths(len(data))) + data
        data = b"".join(inner)
        yield bytes((kind, 0x80)) + data + b"\0\0"
    else:
        data = content
        others = {INTEGER: [b"\0" + data, b"\xff" + data], BOOLEAN: [b"\1"],
                  BITS: [bytes((bits,)) + data[1:] for bits in range(1, 9)]}
        if kind == BITS and data[1:2] == b"\x30":
            # The numbers of a signature by ECDSA.
            others[BITS] += [b"\0" + form for form in variants(read(data[1:])[0])]
        for other in others.get(kind & 0x1f if not kind & 0xc0 else 0, []):
            yield write((kind, other))
    for length in list(_lengths(len(data)))[1:]:
        yield bytes((kind,)) + length + data
