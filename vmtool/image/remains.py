"""What of an imported image is on the machine, whoever remembers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmtool.containerd.endpoint import Endpoint
from vmtool.containerd.remains import endpoints, is_kept_for
from vmtool.frozen import dataclass
from vmtool.image.installed import LISTING, RECORD, current_digests, images_dir, read_records, recorded_digests
from vmtool.image.reference import slug_of
from vmtool.machine import Reader
from vmtool.paths import State


@dataclass(frozen=True)
class ImageRemains:
    """What is there.

    Args:
        kept: the private containerd is kept for its import.
        names: the image's names, by containerd.
        files: what is written down of it.
    """

    kept: bool
    names: tuple[tuple[Endpoint, tuple[str, ...]], ...]
    files: tuple[Path, ...]


def read_image_remains(reader: Reader, state: State, name: str) -> ImageRemains:
    """By what vmtool wrote down, and by what containerd has that such a record would have."""
    directory = images_dir(state) / name
    found = ((endpoint, tuple(sorted(set(_names(reader, state, endpoint, name)))))
             for endpoint in endpoints(reader, state))
    return ImageRemains(is_kept_for(reader, state, f"image-{name}"), tuple(each for each in found if each[1]), tuple(
        directory / file for file in (RECORD, LISTING) if reader.exists(str(directory / file))))


def _names(reader: Reader, state: State, endpoint: Endpoint, name: str) -> Iterator[str]:
    others = {each for record in read_records(reader, state) if record.name != name for each in record.references}
    yield from recorded_digests(reader, state, name)
    for reference in current_digests(reader, state, endpoint) or ():
        built = reference.partition(":")[0].endswith(f"/vmtool/{name}")
        if reference not in others and (built or slug_of(reference) == name):
            yield reference
