"""Which images containerd has, and what vmtool remembers of those that it put there."""

from __future__ import annotations

from pathlib import Path

from vmtool.containerd.endpoint import Endpoint
from vmtool.errors import VmtoolError
from vmtool.frozen import dataclass
from vmtool.host.daemons import living
from vmtool.image.listing import parse_listing
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


def read_record(reader: Reader, directory: Path) -> ImportedImage | None:
    """What was written down about an image; None when its import never ended.

    Raises:
        VmtoolError: the file is of another version of vmtool.
    """
    text = reader.text(str(directory / RECORD))
    try:
        return None if text is None else record_of(ImportedImage, text)
    except ValueError as error:
        raise VmtoolError(f"{directory / RECORD} was written by another version of vmtool: {error}",
                          hint=f"vmtool image rm {directory.name}") from error


def read_records(reader: Reader, state: State) -> list[ImportedImage]:
    """Every record, by name."""
    directories = (images_dir(state) / name for name in reader.names(str(images_dir(state))))
    return [record for directory in directories if (record := read_record(reader, directory))]


def recorded_digests(reader: Reader, state: State, name: str) -> dict[str, str]:
    """What vmtool put under each name of a record, by digest."""
    listing = reader.text(str(images_dir(state) / name / LISTING)) or ""
    return {row.reference: row.digest for row in parse_listing(listing)}


def current_digests(reader: Reader, state: State, endpoint: Endpoint) -> dict[str, str] | None:
    """What each name points to now; None when containerd does not run, or does not answer."""
    if sleeps(state, endpoint):
        return None
    output = reader.run(endpoint.ctr("images", "list"))
    return {row.reference: row.digest for row in parse_listing(output.out)} if output and not output.status else None


def is_present(reader: Reader, state: State, record: ImportedImage) -> bool:
    """Whether each name of the record still points to what was put there; a private containerd that sleeps is not
    woken up for that: nobody can have moved a name meanwhile, and its content is looked for on the disk."""
    recorded = recorded_digests(reader, state, record.name)
    current = current_digests(reader, state, record.endpoint)
    if not set(record.references) <= set(recorded):
        return False
    if current is None and record.private:
        return all(reader.exists(blob_path(state, recorded[name])) for name in record.references)
    return all((current or {}).get(name) == recorded[name] for name in record.references)


def read_images(reader: Reader, state: State, endpoint: Endpoint) -> list[Image]:
    """Every image in vmtool's namespace and in its records."""
    output = None if sleeps(state, endpoint) else reader.run(endpoint.ctr("images", "list"))
    images = {row.reference: Image(row.reference, row.digest, row.size, True, "")
              for row in parse_listing(output.out if output else "")}
    for record in read_records(reader, state):
        listed = reader.text(str(images_dir(state) / record.name / LISTING)) or ""
        known = {row.reference: row for row in parse_listing(listed)}
        present = is_present(reader, state, record)
        for reference in record.references:
            row = known.get(reference)
            images[reference] = Image(reference, row.digest if row else "", row.size if row else "", present,
                                      record.name)
    return sorted(images.values(), key=lambda image: image.reference)


def sleeps(state: State, endpoint: Endpoint) -> bool:
    """Whether it is the private containerd and does not run."""
    return endpoint.private and living(state.run / "containerd.pid") is None


def blob_path(state: State, digest: str) -> str:
    """Where the private containerd keeps what has this digest."""
    store = state.containerd / "root" / "io.containerd.content.v1.content" / "blobs"
    return str(store / digest.replace(":", "/", 1))
