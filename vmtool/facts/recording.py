"""A reader that asks a machine for each thing once, and keeps all the answers.

What it kept is in the form of a recorded host (`tests/fakes/recorded.py`), so that a plan can be made again from the
facts that it was made from.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from vmtool.machine import DeviceReader, FilePiece, Output

T = TypeVar("T")
# Of one text or output; what is longer is cut off in the record, not for who reads.
KEPT = 64 << 10
# Other processes are private.
PRIVATE = re.compile(r"/proc/\d+/")


class RecordingReader:
    """A `vmtool.machine.DeviceReader` in front of another.

    Args:
        secrets: files of which nothing is kept: what was checked of a key is no fact of the host.
    """

    def __init__(self, machine: DeviceReader, secrets: Collection[str] = ()) -> None:
        self.machine, self.secrets = machine, frozenset(secrets)
        self.reported: dict[tuple[Any, ...], Any] = {}

    def _once(self, ask: Callable[..., T], *words: Any) -> T:
        key = (ask.__name__, *words)
        if key not in self.reported:
            self.reported[key] = ask(*words)
        found: T = self.reported[key]
        return found

    def text(self, path: str) -> str | None:
        return self._once(self.machine.text, path)

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        return self._once(self.machine.piece, path, start, size)

    def names(self, path: str) -> tuple[str, ...]:
        return self._once(self.machine.names, path)

    def link(self, path: str) -> str | None:
        return self._once(self.machine.link, path)

    def exists(self, path: str) -> bool:
        return self._once(self.machine.exists, path)

    def which(self, program: str) -> str | None:
        return self._once(self.machine.which, program)

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return self._once(self.machine.run, argv, deadline)

    def beside(self, programs: Sequence[tuple[str, ...]]) -> AbstractContextManager[None]:
        return self.machine.beside(programs)

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        return self._once(self.machine.udev, path, deadline)

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        return self._once(self.machine.guarded, paths, deadline)

    def busy(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, bool]:
        return self._once(self.machine.busy, nodes, deadline)

    def open_vfio(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        return self._once(self.machine.open_vfio, nodes, deadline)

    def recorded(self) -> str:
        """The answers, as the text of a recorded host; what is absent is left out."""
        data: dict[str, Any] = {"texts": {}, "names": {}, "links": {}, "exists": [], "which": {}, "outputs": {},
                                "pieces": {}, "udev": {}}
        for (kind, *words), found in self.reported.items():
            if found not in (None, (), False) and not (words and words[0] in self.secrets):
                _keep(data, kind, words, found)
        return json.dumps(data, indent=1, sort_keys=True) + "\n"


def _keep(data: dict[str, Any], kind: str, words: list[Any], found: Any) -> None:
    match kind:
        case "text" if not PRIVATE.match(words[0]):
            data["texts"][words[0]] = found[:KEPT]
        case "guarded":
            data["texts"] |= {path: text[:KEPT] for path, text in found.items() if text is not None}
        case "piece":
            data["pieces"].setdefault(words[0], {"size": found.size})[str(words[1])] = found.data[:KEPT].hex()
        case "names" | "link" | "which":
            data[{"link": "links"}.get(kind, kind)][words[0]] = found
        case "udev" if found:
            data["udev"][words[0]] = dict(found)
        case "exists":
            data["exists"].append(words[0])
        case "run":
            data["outputs"][command_line(words[0])] = {
                "status": found.status, "out": found.out[:KEPT], "err": found.err[:KEPT]}
        case "busy" | "open_vfio":
            data.setdefault(kind, {}).update(found)


def command_line(argv: tuple[str, ...]) -> str:
    """The key of a program's output; vmtool's own interpreter is "python"."""
    return shlex.join(("python", *argv[1:]) if argv[0] == sys.executable else argv)
