"""Every hint of the product, collected from its code: what a person is told to type or to change."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tests.pages import ROOT

# Calls whose argument of this position is a hint.
POSITIONS = {"wrong_input": 2, "host_lacks": 2, "finding": 4, "Finding": 4}
# What stands in an f-string, where the text around it does not say.
ANY = "X"


@dataclass(frozen=True)
class Hint:
    """One hint, with `X` in the place of what is only known when it is printed."""

    place: str
    text: str


def collect() -> tuple[Hint, ...]:
    """All of them, by file and line."""
    found = []
    for path in sorted((ROOT / "vmtool").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            for value in _values(node):
                found += [Hint(f"{path.relative_to(ROOT)}:{value.lineno}", text) for text in _texts(value) if text]
    return tuple(dict.fromkeys(found))


def _values(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        yield from (each.value for each in node.keywords if each.arg == "hint")
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in POSITIONS and len(node.args) > POSITIONS[name]:
            yield node.args[POSITIONS[name]]
    elif isinstance(node, ast.Assign) and any(getattr(each, "id",
        "").lower().endswith("hint") for each in node.targets):
        yield node.value


def _texts(value: ast.expr) -> list[str]:
    """The texts that an expression can be; those of a name or a call are somebody else's."""
    if isinstance(value, ast.Constant):
        return [value.value] if isinstance(value.value, str) else []
    if isinstance(value, ast.JoinedStr):
        texts = [""]
        for part in value.values:
            options = [str(part.value)] if isinstance(part, ast.Constant) else (
                _texts(part.value) if isinstance(part, ast.FormattedValue) else []) or [ANY]
            texts = [f"{text}{option}" for text in texts for option in options][:8]
        return texts
    if isinstance(value, ast.BinOp):
        return [left + right for left in _texts(value.left) or [ANY] for right in _texts(value.right) or [ANY]][:8]
    if isinstance(value, ast.IfExp):
        return [*_texts(value.body), *_texts(value.orelse)]
    if isinstance(value, ast.BoolOp):
        return [text for each in value.values for text in _texts(each)]
    return []
