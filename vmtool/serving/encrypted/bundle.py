"""What a worker of the engine needs to read a model: which files, by the digests of their headers, and tensors' keys.

The master key is not in it: it opens this model, in this version, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vmtool.serving.cryptotensors.errors import Untrusted

# A model of 10,000 files with their names and digests.
LARGEST = 256 << 20


@dataclass(frozen=True)
class SealedFile:
    """An encrypted file that was checked.

    Args:
        header: SHA-256 of its header's text, in hexadecimal; the header has the tags of all of its bytes.
        tensors: how many there are, and so how many keys.
    """

    name: str
    header: str
    tensors: int


@dataclass(frozen=True)
class Bundle:
    """A model that was checked.

    Args:
        directory: where its files are; view: where its files in clear are, as they were checked.
        size: bytes of a key.
        keys: of all tensors of all files, in order. Mutable, so that it can be overwritten.
    """

    directory: Path
    view: Path
    files: tuple[SealedFile, ...]
    size: int
    keys: bytearray

    def pack(self) -> bytearray:
        """As a text of one line, and the keys behind it."""
        line = json.dumps({"directory": str(self.directory), "view": str(self.view), "size": self.size,
                           "files": [[each.name, each.header, each.tensors] for each in self.files]})
        return bytearray(line.encode() + b"\n") + self.keys

    def of_file(self, number: int) -> list[bytearray]:
        """The keys of a file's tensors."""
        before = sum(each.tensors for each in self.files[:number])
        return [self.keys[place * self.size:(place + 1) * self.size]
                for place in range(before, before + self.files[number].tensors)]


def unpack(packed: bytearray) -> Bundle:
    """The bundle that `pack` wrote.

    Raises:
        Untrusted: it is cut off.
    """
    end = packed.find(b"\n")
    values = json.loads(packed[:end])
    files = tuple(SealedFile(*each) for each in values["files"])
    bundle = Bundle(Path(values["directory"]), Path(values["view"]), files, values["size"], packed[end + 1:])
    if len(bundle.keys) != bundle.size * sum(each.tensors for each in bundle.files):
        raise Untrusted("the keys came cut off")
    return bundle
