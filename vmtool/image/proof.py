"""What is claimed about the image of a running container."""

from __future__ import annotations

from vmtool.claims import Claim
from vmtool.foreign import parse_json
from vmtool.instance.instance import InstanceRecord
from vmtool.machine import Reader

ID = "image.digest"


def container_image_claim(reader: Reader, record: InstanceRecord) -> Claim:
    """Whether the container stands on the layers of the image that was checked, whatever its name points to now: a
    snapshot's parent is the chain of the layers' own digests."""
    if not record.image_chain:
        return Claim(ID, "not-checked", "an older vmtool started it, which did not write down the image's layers")
    output = reader.run(record.endpoint.ctr("snapshots", "info", record.unit), deadline=10.0)
    try:
        parent = parse_json(output.out)["Parent"] if output and output.status == 0 else None
    except (ValueError, LookupError, TypeError, RecursionError):
        parent = None
    if parent is None:
        return Claim(ID, "not-checked", "containerd did not say what the container stands on")
    if parent != record.image_chain:
        return Claim(ID, "failed", f"the container stands on {parent}, not on the layers of {record.image_digest}")
    return Claim(ID, "proven", f"{record.image_digest} ({record.image_origin})")
