"""The plan of an import: from an archive to an image in containerd. Its undo is `vmtool image rm`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vmtool import plan as p
from vmtool.containerd.actions import DeleteLeases, WriteZone
from vmtool.containerd.endpoint import NAMESPACE, Endpoint, awake, plan_containerd, start_daemon
from vmtool.containerd.leases import lease_mark
from vmtool.errors import Refused
from vmtool.image.actions import ExpectDigest
from vmtool.image.archive import NAME, TAG, Contents
from vmtool.image.installed import LISTING, RECORD, ImportedImage, images_dir
from vmtool.image.reference import slug_of
from vmtool.paths import State
from vmtool.records import record_text

SAVE_AGAIN = "save the image again: the archive is damaged, not what its manifests say, or for another machine"


def plan_import(state: State, endpoint: Endpoint, archive: Path, record: ImportedImage,
                earlier: ImportedImage | None, *, digests: Mapping[str, str], base_name: str = "",
                tag: tuple[str, str] | None = None, local: bool = False) -> p.Plan:
    """From an archive to an image that `ctr run` finds.

    Args:
        record: what will be there.
        earlier: what an earlier import under the same name left.
        digests: what each reference must point to then, as far as the archive says.
        base_name: name for an image that carries a tag only.
        tag: (present name, further name).
        local: `ctr` imports by itself only with its option `--local`, so that the lease is its own, see `lease_mark`.
    """
    directory = images_dir(state) / record.name
    old = tuple(name for name in (earlier.references if earlier else ()) if name not in record.references)
    words = ("images", "import", *(("--local",) if local else ()),
             *(("--base-name", base_name) if base_name else ()), str(archive))
    mark = lease_mark(state, directory)
    left = DeleteLeases(endpoint.socket, NAMESPACE, mark.filter)
    actions: list[p.Action] = [
        p.MakeDir(directory), p.Remove(directory / RECORD), left, WriteZone(mark.zone, mark.west),
        p.Run(endpoint.ctr(*words), env=mark.environment, deadline=1800, hint=SAVE_AGAIN), p.Remove(mark.zone)]
    if tag:
        actions.append(p.Run(endpoint.ctr("images", "tag", "--force", *tag)))
    actions += [_expect(endpoint, name, digests.get(name, "")) for name in record.references]
    filters = (f"name=={name}" for name in record.references)
    actions += [p.Run(endpoint.ctr("images", "list", *filters), stdout=directory / LISTING),
                *_forget(endpoint, old), p.WriteFile(directory / RECORD, record_text(record))]
    undo = (p.Remove(directory / RECORD), p.Remove(directory / LISTING), *awake(state, endpoint),
            *_forget(endpoint, (*old, *record.references)), left, p.Remove(mark.zone))
    user = f"image-{record.name}"
    return p.Plan(f"image {record.name}", directory, (
        plan_containerd(state, endpoint, user),
        p.Step(f"import {record.references[-1]}", tuple(actions), undo=undo, replaces_previous=True),
        plan_release(state, endpoint, user),
    ))


def _expect(endpoint: Endpoint, name: str, digest: str) -> p.Action:
    hint = "the archive holds something else than it says: ctr images import it by hand, then look"
    return ExpectDigest(endpoint, name, digest, hint) if digest else p.Expect(
        endpoint.ctr("images", "list", "--quiet", f"name=={name}"), name, hint=hint)


def plan_release(state: State, endpoint: Endpoint, user: str) -> p.Step:
    """The reverse of `plan_containerd`: a private containerd runs only while something needs it."""
    if not endpoint.private:
        return p.Step("leave containerd alone", skip="it is the system's")
    users = state.containerd / "users"
    return p.Step("stop the private containerd, unless an instance needs it",
                  (p.Remove(users / user), p.StopDaemon(start_daemon(state).pidfile, users)))


def built_record(name: str, reference: str, digest: str, endpoint: Endpoint) -> ImportedImage:
    """The record of an image that was built here: tagged by its input, and as the latest."""
    return ImportedImage(name, (f"{reference}:{digest[:12]}", f"{reference}:latest"), digest, str(endpoint.socket),
                  endpoint.private)


def digests_of(contents: Contents, record: ImportedImage) -> dict[str, str]:
    """The digest of what each reference of the record is to point to, as far as the archive says."""
    named = contents.references or contents.unnamed
    return {reference: contents.digests[name] for reference, name in zip(record.references, named, strict=True)
            if name in contents.digests}


def foreign_record(contents: Contents, archive: Path, endpoint: Endpoint, name: str = "") -> tuple[ImportedImage, str]:
    """The record of an archive from elsewhere, and the base name that the import must be given.

    Raises:
        Refused: the archive does not name its images and `name` is not given, or it is given needlessly.
    """
    if len(contents.unnamed) > 1 or (contents.unnamed and contents.references):
        raise Refused(f"{archive}: several images, not all of them named", hint="save them one by one")
    if contents.references and name:
        raise Refused(f"{archive}: is named {contents.references[0]} already", hint="leave --name out")
    if contents.unnamed and not contents.unnamed[0]:
        raise Refused(f"{archive}: the image in it has neither name nor tag", hint="save it again under a name")
    if contents.unnamed and not re.fullmatch(TAG, contents.unnamed[0]):
        raise Refused(f"{archive}: the image in it is called {contents.unnamed[0][:80]!r}, which is no name",
                      hint="save it again under a name")
    if contents.unnamed and not re.fullmatch(NAME, name):
        raise Refused(f"{archive}: the image in it has the tag {contents.unnamed[0]!r} and no full name",
                      hint=f"vmtool image import {archive} --name docker.io/vmtool/NAME")
    references = contents.references or (f"{name}:{contents.unnamed[0]}",)
    return ImportedImage(slug_of(references[0]), references, "", str(endpoint.socket), endpoint.private), name


def _forget(endpoint: Endpoint, references: tuple[str, ...]) -> tuple[p.Action, ...]:
    return tuple(p.Run(endpoint.ctr("images", "remove", name), absent_messages=("not found",)) for name in references)
