"""Which images containerd has, and what vmtool remembers of those that it put there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vmtool.containerd.endpoint import Endpoint
from vmtool.errors import VmtoolError
from vmtool.host.daemons import living
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.records import record_of

RECORD = "image.json"
LISTING = "listing.txt"


@dataclass(frozen=True)
class ImportedImage:
    """An image that vmtool imported.

    Args:
        name: of its directory.
        references: its names in containerd, the most useful last.
        input: digest of what it was built from; empty when it was imported from elsewhere.
        socket, private: the containerd that has it.
    """

    name: str
    references: tuple[str, ...]
    input: str
    socket: str
    private: bool

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(Path(self.socket), self.private)


@dataclass(frozen=True)
class Image:
    """One line of `image list`.

    Args:
        digest: of the manifest, "sha256:...".
        present: whether containerd has it now.
        name: of vmtool's record; empty for an image that something else put into vmtool's namespace.
    """

    reference: str
    digest: str
    size: str
    present: bool
    name: str


def images_dir(state: State) -> Path:
    return state.root / "images"


def read_record(directory: Path) -> ImportedImage | None:
    """What was written down about an image; None when its import never ended.

    Raises:
        VmtoolError: the file is of another version of vmtool.
    """
    try:
        return record_of(ImportedImage, (directory / RECORD).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise VmtoolError(f"{directory / RECORD} was written by another version of vmtool: {error}",
                          hint=f"vmtool image rm {directory.name}") from error


def read_records(state: State) -> list[ImportedImage]:
    directories = sorted(path for path in images_dir(state).glob("*") if path.is_dir())
    return [record for directory in directories if (record := read_record(directory))]


def is_present(reader: Reader, state: State, record: ImportedImage) -> bool:
    """Whether the recorded image is still there; a private containerd that sleeps is not woken up for that."""
    if sleeps(state, record.endpoint):
        digest = _digest(images_dir(state) / record.name / LISTING)
        blobs = state.containerd / "root" / "io.containerd.content.v1.content" / "blobs" / "sha256"
        return bool(digest) and reader.exists(str(blobs / digest.removeprefix("sha256:")))
    existing = {image[0] for image in _ask(reader, record.endpoint)}
    return set(record.references) <= existing


def read_images(reader: Reader, state: State, endpoint: Endpoint) -> list[Image]:
    """Every image in vmtool's namespace and in its records."""
    rows = [] if sleeps(state, endpoint) else _ask(reader, endpoint)
    images = {reference: Image(reference, digest, size, True, "") for reference, digest, size in rows}
    for record in read_records(state):
        listed = images_dir(state) / record.name / LISTING
        known = {row[0]: row for row in _rows(reader.text(str(listed)) or "")}
        present = is_present(reader, state, record)
        for reference in record.references:
            _, digest, size = known.get(reference, (reference, "", ""))
            images[reference] = Image(reference, digest, size, present, record.name)
    return sorted(images.values(), key=lambda image: image.reference)


def sleeps(state: State, endpoint: Endpoint) -> bool:
    """Whether it is the private containerd and does not run."""
    return endpoint.private and living(state.run / "containerd.pid") is None


def _ask(reader: Reader, endpoint: Endpoint) -> list[tuple[str, str, str]]:
    output = reader.run(endpoint.ctr("images", "list"))
    return _rows(output.out) if output and output.status == 0 else []


def _rows(text: str) -> list[tuple[str, str, str]]:
    """Reference, digest and size of `ctr images list`: REF TYPE DIGEST SIZE UNIT PLATFORMS LABELS."""
    return [(words[0], words[2], " ".join(words[3:5])) for words in map(str.split, text.splitlines())
            if len(words) > 4 and words[2].startswith("sha256:")]


def _digest(listing: Path) -> str:
    try:
        found = re.search(r"sha256:[0-9a-f]{64}", listing.read_text())
    except OSError:
        return ""
    return found[0] if found else ""
