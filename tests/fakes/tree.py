"""A tree of files that are entries of dictionaries."""

from __future__ import annotations

from vmtool.rootfs.inspect.tree import LIMIT, Node


class FakeTree:
    """A `vmtool.rootfs.inspect.tree.Tree` out of dictionaries."""

    def __init__(self, nodes: dict[str, Node | None], texts: dict[str, str] | None = None) -> None:
        self.texts = texts or {}
        self.nodes = {**{path: Node("file", 0o644, len(text)) for path, text in self.texts.items()},
                      **{path: node for path, node in nodes.items() if node}}

    def look(self, path: str) -> Node | None:
        return self.nodes.get(path)

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(sorted({other.removeprefix(f"{path}/").partition("/")[0] for other in self.nodes
                             if other.startswith(f"{path}/")}))

    def text(self, path: str, limit: int = LIMIT) -> str | None:
        return self.texts.get(path)
