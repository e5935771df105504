"""The digest of a PE image as firmware measures it before it starts it (Authenticode; edk2, MeasurePeImage)."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.attest.measure.guest import NotComputed

PE32, PE32_PLUS = 0x10b, 0x20b
OPTIONAL, CHECKSUM, SECURITY = 24, 64, 4
SECTION = 40


def measured_parts(image: bytes) -> Iterator[bytes]:
    """What the digest is over: all but the checksum and the signatures, sections in the order of the file.

    Raises:
        NotComputed: it is no PE image.
    """
    header = _number(image, 0x3c, 4)
    if image[:2] != b"MZ" or image[header:header + 4] != b"PE\0\0":
        raise NotComputed("the kernel is no PE image: it has no EFI stub, so no firmware starts it")
    optional = header + OPTIONAL
    magic = _number(image, optional, 2)
    if magic not in (PE32, PE32_PLUS):
        raise NotComputed("the kernel's PE header is of no known form")
    directories = optional + (96 if magic == PE32 else 112)
    checksum, security = optional + CHECKSUM, directories + SECURITY * 8
    headers, signatures = _number(image, optional + 60, 4), 0
    yield image[:checksum]
    if _number(image, directories - 4, 4) > SECURITY:
        signatures = _number(image, security + 4, 4)
        yield image[checksum + 4:security]
        yield image[security + 8:headers]
    else:
        yield image[checksum + 4:headers]
    yield from _sections(image, header, optional, headers, signatures)


def _sections(image: bytes, header: int, optional: int, headers: int, signatures: int) -> Iterator[bytes]:
    table = optional + _number(image, header + 20, 2)
    places = [table + SECTION * index for index in range(_number(image, header + 6, 2))]
    pieces = sorted((_number(image, place + 20, 4), _number(image, place + 16, 4)) for place in places)
    seen = headers
    for start, size in pieces:
        if size:
            if start + size > len(image):
                raise NotComputed("a section of the kernel's PE image lies outside of it")
            yield image[start:start + size]
            seen += size
    if len(image) - signatures > seen:
        yield image[seen:len(image) - signatures]


def _number(image: bytes, place: int, size: int) -> int:
    if place + size > len(image):
        raise NotComputed("the kernel's PE header is cut")
    return int.from_bytes(image[place:place + size], "little")
