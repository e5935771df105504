"""The image that a launch is made from: what its name points to, and what is in there.

A name only points, and anybody who may use containerd can move it. So a launch knows its image by digest: what was
checked is what the plan names, what the container is made from, and what the running container is compared with.
"""

from __future__ import annotations

import platform
from hashlib import sha256
from typing import Any

from vmtool.architecture import architecture_of
from vmtool.containerd.endpoint import Endpoint
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.image.installed import ImportedImage, blob_path, current_digests, read_records, recorded_digests
from vmtool.image.listing import DIGEST
from vmtool.image.reference import full_reference, split_digest
from vmtool.machine import Reader
from vmtool.paths import State


@dataclass(frozen=True)
class PinnedImage:
    """An image, once for a whole launch.

    Args:
        reference: its name in containerd.
        digest: of what the name points to, "sha256:..."; empty when there is no such image.
        recorded: what vmtool put under this name; empty when it has no record of it.
        requested: the digest that the spec asks for; empty when it names none.
        origin: where vmtool has it from.
        chain: the chain ID of its layers (OCI image specification): the snapshot that a container of it stands on.
        user: as its configuration has it; empty for root.
        problem: why its content could not be read; empty when it was.
    """

    reference: str
    digest: str = ""
    recorded: str = ""
    requested: str = ""
    origin: str = "put there by something else than vmtool"
    chain: str = ""
    user: str = ""
    problem: str = ""


def read_image(reader: Reader, state: State, endpoint: Endpoint, wanted: str) -> PinnedImage:
    """Look the image up.

    Args:
        wanted: as the spec names it.
    """
    name, requested = split_digest(wanted)
    reference = full_reference(name)
    record = next((each for each in read_records(reader, state)
                   if reference in each.references and each.endpoint == endpoint), None)
    recorded = recorded_digests(reader, state, record.name).get(reference, "") if record else ""
    current = current_digests(reader, state, endpoint)
    # A private containerd that does not run still has what was put there.
    digest = recorded if current is None else current.get(reference, "")
    if not digest:
        return PinnedImage(reference, recorded=recorded, requested=requested)
    origin = _origin(record) if record else PinnedImage.origin
    try:
        config = _config(reader, state, endpoint, digest)
        chain, user = chain_of(config["rootfs"]["diff_ids"]), str((config.get("config") or {}).get("User") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return PinnedImage(reference, digest, recorded, requested, origin, problem=str(error) or "damaged")
    return PinnedImage(reference, digest, recorded, requested, origin, chain, user)


def _origin(record: ImportedImage) -> str:
    return f"built from the recipe {record.name}, input {record.input[:12]}" if record.input else "imported by vmtool"


def chain_of(layers: list[str]) -> str:
    """The chain ID of layers by their DiffIDs.

    Raises:
        ValueError: one of them is no digest.
    """
    if not layers or not all(DIGEST.fullmatch(layer) for layer in layers):
        raise ValueError("its configuration does not name its layers")
    chain = layers[0]
    for layer in layers[1:]:
        chain = f"sha256:{sha256(f'{chain} {layer}'.encode()).hexdigest()}"
    return chain


def _config(reader: Reader, state: State, endpoint: Endpoint, digest: str) -> dict[str, Any]:
    """The image's configuration; of an index, of the image for this machine."""
    document, own = _document(reader, state, endpoint, digest), architecture_of(platform.machine()).debian
    if "manifests" in document:
        document = _document(reader, state, endpoint, _fitting(document["manifests"], own)["digest"])
    config = _document(reader, state, endpoint, document["config"]["digest"])
    if config.get("architecture", own) != own:
        raise ValueError(f"it is for {str(config['architecture'])[:20]}, and this machine is {own}")
    if config.get("os", "linux") != "linux":
        raise ValueError(f"it is for {str(config['os'])[:20]}, and this machine is linux")
    return config


def _fitting(manifests: list[dict[str, Any]], own: str) -> dict[str, Any]:
    """The image of an index that is for this machine, or says of no machine that it is for it.

    Raises:
        ValueError: there is none.
    """
    made_for = [(each.get("platform") or {}).get("architecture") for each in manifests]
    for wanted in (own, None):
        if wanted in made_for:
            return manifests[made_for.index(wanted)]
    # What buildx adds about the build is of "unknown".
    others = ", ".join(sorted({str(each)[:20] for each in made_for} - {"unknown"}))
    raise ValueError(f"it has no image for this machine ({own}){f', but for {others}' if others else ''}")


def _document(reader: Reader, state: State, endpoint: Endpoint, digest: str) -> dict[str, Any]:
    """A JSON document of the content store, which is what its digest says.

    Raises:
        ValueError: it is not there, or is another one.
    """
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{digest[:80]!r} is not a digest")
    if endpoint.private:
        text = reader.text(blob_path(state, digest))
    else:
        output = reader.run(endpoint.ctr("content", "get", digest))
        text = output.out if output and output.status == 0 else None
    if text is None or sha256(text.encode()).hexdigest() != digest.removeprefix("sha256:"):
        raise ValueError(f"containerd does not have its part {digest}")
    document = parse_json(text)
    if not isinstance(document, dict):
        raise ValueError(f"its part {digest} is not a document")
    return document
