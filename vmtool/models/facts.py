"""A model directory on this host."""

from __future__ import annotations

import posixpath

from vmtool.errors import shell_word
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.models.weights import broken, json_object, missing_shards, pointers
from vmtool.procfs import mount_points
from vmtool.qemu.processes import real_path

# As of a spec's canary.
LONGEST = 10_000


@dataclass(frozen=True)
class ModelFacts:
    """What lies in the directory.

    Args:
        files: relative path -> size in bytes, two levels deep; empty when the directory is absent.
        unreadable: those (the directory itself is ".") that a user who is not their owner cannot read.
        architecture: as config.json names it; empty when there is no readable config.json.
        outside: symbolic links that lead out of the directory.
        nowhere: symbolic links to what is not there.
        special: what is neither file, directory nor link there: pipes, devices, sockets.
        mounts: where other file systems are mounted below the directory.
        canary: (prompt, expected answer) of canary.json, when the model brings one.
        pointers: files that are Git LFS pointers.
        missing: files that an index of weights names.
        broken: files of weights, of the tokenizer and of settings that are cut off or something else, each with why.
    """

    path: str
    files: dict[str, int]
    unreadable: tuple[str, ...]
    architecture: str
    canary: tuple[str, str] | None
    outside: tuple[str, ...] = ()
    nowhere: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def mistral(self) -> bool:
        """Whether it is in Mistral's own format, which vLLM reads too: params.json, consolidated*.safetensors."""
        return "params.json" in self.files and any(
            name.startswith("consolidated") and name.endswith(".safetensors") for name in self.files)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.files.values())


def read_model(reader: Reader, path: str) -> ModelFacts:
    """Look into a model directory."""
    # Names are anybody's: a zero byte ends a record, since a name can hold a line break.
    found = reader.run(("find", "-L", path, "-maxdepth", "2", "-printf", "%y %m %s %P\\0"))
    rows = [record.split(" ", 3) for record in (found.out if found else "").split("\0")]
    # -H: the directory itself may be a link to where it is.
    links = reader.run(("find", "-H", path, "-maxdepth", "2", "-type", "l", "-printf", "%P\\0%l\\0"))
    words = (links.out if links else "").split("\0")
    outside = tuple(name for name, target in zip(words[::2], words[1::2], strict=False)
                    if _leaves(reader, path, name, target))
    files: dict[str, int] = {}
    unreadable, special, nowhere = [], [], []
    for kind, mode, size, name in (row for row in rows if len(row) == 4):
        wanted = 0o5 if kind == "d" else 0o4
        if int(mode, 8) & wanted != wanted:
            unreadable.append(name or ".")
        if kind == "f":
            files[name] = int(size)
        elif kind in "pscb":
            special.append(name)
        elif kind in "lLN?" and name not in outside:
            nowhere.append(name)
    return ModelFacts(path, files, tuple(unreadable), _architecture(reader, path), _canary(reader, path), outside,
                      tuple(nowhere), tuple(special), _mounts(reader, path), tuple(pointers(reader, path, files)),
                      tuple(missing_shards(reader, path, files)), tuple(broken(reader, path, files)))


def _mounts(reader: Reader, path: str) -> tuple[str, ...]:
    below = f"{real_path(reader, path).rstrip('/')}/"
    return tuple(point for point in mount_points(reader.text("/proc/self/mountinfo") or "") if point.startswith(below))


def unreadable_file(reader: Reader, path: str) -> str:
    """Why the container's user could not read a file or directory; empty when it could."""
    found = reader.run(("find", "-L", path, "-maxdepth", "0", "-printf", "%y %m"))
    kind, _, mode = (found.out if found else "").partition(" ")
    if kind not in ("f", "d"):
        return "is not there" if not kind or kind in "NL" else "is neither a file nor a directory"
    wanted = 0o5 if kind == "d" else 0o4
    readable = int(mode, 8) & wanted == wanted
    return "" if readable else f"cannot be read by the container's user: chmod o+rX {shell_word(path)}"


def _leaves(reader: Reader, path: str, name: str, target: str) -> bool:
    """Whether a link in the directory leads out of it, where the container sees nothing: by its words, or over other
    links."""
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if posixpath.isabs(target) or inside.startswith(".."):
        return True
    root = real_path(reader, path)
    return not f"{real_path(reader, f'{root}/{name}')}/".startswith(f"{root}/")


def _architecture(reader: Reader, path: str) -> str:
    config = json_object(reader.text(f"{path}/config.json"))
    names = config.get("architectures")
    if names and not isinstance(names, list):
        return ""
    said = names[0] if names else config.get("model_type")
    return said if isinstance(said, str) else ""


def _canary(reader: Reader, path: str) -> tuple[str, str] | None:
    canary = json_object(reader.text(f"{path}/canary.json"))
    prompt, expect = canary.get("prompt"), canary.get("expect")
    if not isinstance(prompt, str) or not isinstance(expect, str) or max(len(prompt), len(expect)) > LONGEST:
        return None
    return (prompt, expect) if prompt.strip() and expect.strip() else None
