"""A host out of a JSON file in the place of a real one: what `scripts/record-host` wrote, or a person by its form."""

from __future__ import annotations

import contextlib
import copy
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmtool.machine import FilePiece, Output

HOSTS = Path(__file__).parents[1] / "data" / "hosts"


class Recorded:
    """A `vmtool.machine.Reader` that knows what was recorded; everything else is absent.

    The form: `texts` path -> text; `names` directory -> names; `links` path -> target; `exists` list of paths;
    `which` program -> path; `outputs` command line -> {status, out, err}, where vmtool's own Python is "python";
    `pieces` path -> {size, and by the byte where it starts what is there in hexadecimal}.
    `udev` path in /sys -> properties; where it is not listed, what its recorded text of /run/udev/data says.
    A directory of a recorded text or link lists it, and whatever was recorded in any way exists.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data: dict[str, Any] = {"texts": {}, "names": {}, "links": {}, "exists": [], "which": {}, "outputs": {},
                                     "pieces": {}, "udev": {},
                                     **copy.deepcopy(data)}

    @classmethod
    def load(cls, name: str, **changes: dict[str, Any]) -> Recorded:
        """The host of tests/data/hosts/NAME.json, with entries added or, by None, removed."""
        host = cls(json.loads((HOSTS / f"{name}.json").read_text()))
        for table, entries in changes.items():
            for key, value in entries.items():
                if value is None:
                    host.data[table].pop(key, None)
                else:
                    host.data[table][key] = value
        return host

    def text(self, path: str) -> str | None:
        found: str | None = self.data["texts"].get(path)
        return found

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        found = self.data["pieces"].get(path)
        return FilePiece(found["size"], bytes.fromhex(found.get(str(start), ""))[:size]) if found else None

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        return {path: self.text(path) for path in paths}

    def busy(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, bool]:
        """Table `busy`: node -> answer; one that is not listed there is free, unless the table is."""
        known: dict[str, bool] | None = self.data.get("busy")
        return dict.fromkeys(nodes, False) if known is None else {node: known[node] for node in nodes if node in known}

    def open_vfio(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        """Table `open_vfio`: node -> answer; one that is not listed there does not answer."""
        known: dict[str, str] = self.data.get("open_vfio", {})
        return {node: known[node] for node in nodes if node in known}

    def names(self, path: str) -> tuple[str, ...]:
        start = f"{path}/"
        inside = {name.removeprefix(start) for table in ("texts", "links") for name in self.data[table]
                  if name.startswith(start)}
        return tuple(sorted({name for name in inside if "/" not in name} | set(self.data["names"].get(path, ()))))

    def link(self, path: str) -> str | None:
        found: str | None = self.data["links"].get(path)
        return found

    def exists(self, path: str) -> bool:
        tables = [self.data[table] for table in ("texts", "names", "links", "exists")]
        directory = path.removesuffix("/.")
        # As the kernel has it, only a directory has a "." in it.
        if directory in self.data["names"] or (directory == path and any(path in known for known in tables)):
            return True
        start = f"{directory}/"
        return any(other.startswith(start) for known in tables for other in known)

    def which(self, program: str) -> str | None:
        found: str | None = self.data["which"].get(program)
        return found

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        found = self.data["outputs"].get(command_line(argv))
        return Output(found.get("status", 0), found.get("out", ""), found.get("err", "")) if found is not None else None

    @contextlib.contextmanager
    def beside(self, programs: Sequence[tuple[str, ...]]) -> Iterator[None]:
        yield

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        found: dict[str, str] | None = self.data["udev"].get(path)
        lines = (self.text(f"/run/udev/data/+pci:{path.rpartition('/')[2]}") or "").splitlines()
        pairs = (line.removeprefix("E:").partition("=") for line in lines if line.startswith("E:"))
        return {name: value for name, _, value in pairs} if found is None else found


def command_line(argv: tuple[str, ...]) -> str:
    """The key of a program's output."""
    return shlex.join(("python", *argv[1:]) if argv[0] == sys.executable else argv)
