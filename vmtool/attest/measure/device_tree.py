"""A device tree as QEMU makes it for a guest (Devicetree Specification 0.4, chapter 5), and as it makes it for one that
has another command line or initrd: its libfdt puts those into places of their own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cursor import Cursor, require
from vmtool.attest.measure.guest import NotComputed
from vmtool.frozen import dataclass

MAGIC, VERSION = 0xd00dfeed, 17
HEADER = 40
BEGIN, END, PROPERTY, NOTHING, LAST = 1, 2, 3, 4, 9
# Of a property: the tag, its size, the place of its name.
HEAD = 12
DEEPEST = 16
SEEDS = ("kaslr-seed", "rng-seed")


@dataclass(frozen=True)
class Property:
    """A property: of which node, its value, and where that begins in the structure."""

    node: str
    name: str
    value: bytes
    at: int


@dataclass(frozen=True)
class DeviceTree:
    """A tree: what is before its structure, that, its names, and zeros up to its size."""

    before: bytes
    structure: bytes
    names: bytes
    size: int

    @cached_property
    def properties(self) -> tuple[Property, ...]:
        return tuple(_walk(self.structure, self.names))

    def value(self, node: str, name: str) -> bytes:
        """A property's value.

        Raises:
            NotComputed: the tree has none.
        """
        return self._find(node, name).value

    def with_value(self, node: str, name: str, value: bytes) -> DeviceTree:
        """The tree with another value of a property, as QEMU makes one with that value.

        Its libfdt makes room before what follows, and leaves what was there in the bytes that fill up the last word.
        """
        found = self._find(node, name)
        after = self.structure[found.at + _words(len(found.value)):]
        end = HEAD + _words(len(value))
        filler = (after + self.names).ljust(end, b"\0")[HEAD + len(value):end]
        head = self.structure[:found.at - 8] + len(value).to_bytes(4, "big") + self.structure[found.at - 4:found.at]
        return DeviceTree(self.before, head + value + filler + after, self.names, self.size)

    def octets(self) -> bytes:
        """The tree as it lies in memory.

        Raises:
            NotComputed: it became too large.
        """
        start = len(self.before)
        header = bytearray(self.before)
        header[12:16] = (start + len(self.structure)).to_bytes(4, "big")
        header[36:40] = len(self.structure).to_bytes(4, "big")
        made = bytes(header) + self.structure + self.names
        if len(made) > self.size:
            raise NotComputed(f"the device tree has no room for {len(made) - self.size} bytes more")
        return made.ljust(self.size, b"\0")

    def _find(self, node: str, name: str) -> Property:
        for found in self.properties:
            if (found.node, found.name) == (node, name):
                return found
        raise NotComputed(f"the device tree has no {name} in {node}")


def parse_tree(data: bytes) -> DeviceTree:
    """Read a tree as QEMU dumps it (-machine dumpdtb=FILE): nothing of it may differ from one start to the next.

    Raises:
        NotComputed: it is none, or none of QEMU's, or it has random seeds.
    """
    try:
        tree = _parse(data)
        seeds = sorted({found.name for found in tree.properties} & set(SEEDS))
    except NotProven as error:
        raise NotComputed(str(error)) from error
    if seeds:
        raise NotComputed(f"the device tree has {' and '.join(seeds)}, which differ at each start "
                          "(-machine dtb-randomness=off)")
    return tree


def _parse(data: bytes) -> DeviceTree:
    cursor = Cursor(data, "the device tree", order="big")
    magic, size, structure, names, _, version, _, _, names_size, structure_size = (cursor.number(4) for _ in range(10))
    require(magic == MAGIC and version == VERSION and size == len(data), "no device tree as QEMU dumps it")
    end = names + names_size
    require(structure >= HEADER and structure + structure_size == names and end <= size and not any(data[end:]),
            "the device tree is not laid out as QEMU does it")
    return DeviceTree(data[:structure], data[structure:names], data[names:end], size)


def _walk(structure: bytes, names: bytes) -> Iterator[Property]:
    cursor, path = Cursor(structure, "the device tree", order="big"), list[str]()
    while (tag := cursor.number(4)) != LAST:
        require(tag in (BEGIN, END, PROPERTY, NOTHING), f"tag {tag} of the device tree is unknown")
        if tag == BEGIN:
            path.append(_text(structure, cursor.at))
            cursor.take(_words(len(path[-1]) + 1))
            require(len(path) <= DEEPEST, "the device tree is too deep")
        elif tag == END:
            require(bool(path), "a node of the device tree ends twice")
            path.pop()
        elif tag == PROPERTY:
            length, name = cursor.number(4), _text(names, cursor.number(4))
            at = cursor.at
            yield Property("/".join(path) or "/", name, cursor.take(_words(length))[:length], at)
    require(not path and not cursor.left(), "the device tree goes on after its end")


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    require(end >= 0, "a name of the device tree has no end")
    return data[at:end].decode("ascii", "replace")


def _words(size: int) -> int:
    return -(-size // 4) * 4
