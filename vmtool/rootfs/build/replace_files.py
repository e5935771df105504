"""Putting several new files in the old ones' places, so that a kill leaves all old ones or all new ones.

Files cannot be renamed together. So links to all old ones lie in a directory until all new ones are there, and that
directory goes atomically: before it, the undo leads to the old files, after it to nothing.
"""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.frozen import dataclass
from vmtool.rootfs.format.image_file import manifest_path, undo_file_path
from vmtool.rootfs.metadata.workers import rewrite_manifest

# What mv and ln say when there is nothing to do; before an exchange both names are of one file, which mv refuses.
_NOTHING = ("cannot stat", "are the same file", "No such file or directory", "Not a directory")


@dataclass(frozen=True)
class Replacement:
    """A file and the place that it gets, in the same directory.

    Args:
        there: whether a file has the place now.
        optional: the new file may turn out not to exist; then the old one goes without a successor.
    """

    new: Path
    target: Path
    existing: bool
    optional: bool = False


def plan_replacements(title: str, image: Path, replacements: tuple[Replacement, ...],
                      before: tuple[p.Action, ...] = ()) -> p.Step:
    """The step that exchanges them; `before` makes the new files.

    Args:
        image: names the directory of the old files, which is next to it.
    """
    old, gone = (image.with_name(f".{image.name}.vmtool-{word}") for word in ("old", "gone"))
    keep, put, undo = [], [], []
    for number, replacement in enumerate(replacements):
        kept = old / str(number)
        if replacement.existing:
            verb = ("mv", "--force", "--no-target-directory") if replacement.optional else ("ln",)
            keep.append(p.Run((*verb, str(replacement.target), str(kept))))
            undo.append(_move(kept, replacement.target))
        else:
            # Into the directory that goes: once the exchange is done, there is none, and the new file stays.
            undo.append(_move(replacement.target, old / f"new-{number}"))
        put.append(p.Run(("mv", "--force", "--no-target-directory", str(replacement.new), str(replacement.target)),
                         absent_messages=("cannot stat",) if replacement.optional else ()))
    actions = (*before, p.Remove(old), p.Remove(gone), p.MakeDir(old), *keep, *put,
               p.Run(("mv", "--no-target-directory", str(old), str(gone))), p.Remove(gone),
               # Of a growth that was interrupted: it leads to an image that is there no more.
               p.Remove(undo_file_path(image)))
    rest = (*(replacement.new for replacement in replacements), old, gone)
    return p.Step(title, actions, undo=(*undo, *map(p.Remove, rest)), waits_only=True)


def plan_replace_image(directory: Path, image: Path, new: Path, manifest: Path | None, *, existing: bool = True,
                  hook: str = "") -> p.Step:
    """Put a changed image, and the manifest of what it has become, in the old one's place.

    Args:
        directory: of the journal; verity.json may lie there.
        manifest: of what the image was; None when it has none.
        there: a manifest is next to the image.
        hook: path of a hook that the image promises from now on.
    """
    replacements, before = [Replacement(new, image, existing=True)], list[p.Action]()
    if manifest:
        target, sealed = manifest_path(image), directory / "manifest.json"
        beside = target.with_name(f".{target.name}.vmtool-new")
        order = rewrite_manifest.Order(manifest, new, sealed, directory / "verity.json", hook)
        before = [p.run_worker(order, deadline=3600), p.Run(("cp", "--remove-destination", str(sealed), str(beside)))]
        replacements.insert(0, Replacement(beside, target, existing))
    return plan_replacements("put it in the old one's place", image, tuple(replacements), tuple(before))


def _move(source: Path, target: Path) -> p.Run:
    return p.Run(("mv", "--force", "--no-target-directory", str(source), str(target)), absent_messages=_NOTHING)
