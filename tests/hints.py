"""Every hint of the product, collected from its code: what a person is told to type or to change.

Collected are the texts that are given as a hint where it is made, those of the constants, local names and functions
that are given as one, and every other text in which a command of vmtool's stands, whoever prints it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.pages import ROOT
from tests.sources import parsed
from vmtool.cli.main import ALIASES, COMMANDS

# Calls whose argument of this position is a hint.
POSITIONS = {"wrong_input": 2, "host_lacks": 2, "finding": 4, "Finding": 4}
# What stands in an f-string, where the text around it does not say.
ANY = "X"
# The nodes that one of the functions below asks about: a third of all.
LOOKED_AT = (ast.Call, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.Expr, ast.Constant, ast.JoinedStr, ast.BinOp)
COMMAND = re.compile(rf"\bvmtool ({'|'.join({**COMMANDS, **ALIASES})})\b|: +vmtool [a-z]")


@dataclass(frozen=True)
class Hint:
    """One hint, with `X` in the place of what is only known when it is printed."""

    place: str
    text: str


@functools.cache
def collect() -> tuple[Hint, ...]:
    """All of them, by file and line."""
    files = {path: [node for node in ast.walk(parsed(path)) if isinstance(node, LOOKED_AT)]
             for path in sorted((ROOT / "vmtool").rglob("*.py"))}
    values = {path: [value for node in nodes for value in _values(node)] for path, nodes in files.items()}
    given = {path: {name for value in found for name in _names(value)} for path, found in values.items()}
    everywhere = set().union(*given.values())
    found = []
    for path, nodes in files.items():
        named = [*(value for node in nodes for value in _named(node, given[path])),
                 *(value for node in parsed(path).body for value in _named(node, everywhere))]
        for value in (*values[path], *named, *_commands(nodes)):
            found += [Hint(f"{path.relative_to(ROOT)}:{value.lineno}", line.strip()) for text in _texts(value)
                      for line in text.split("\n") if line.strip()]
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


def _names(value: ast.expr) -> Iterator[str]:
    """The constants, local names and functions that an expression can be the value of."""
    if isinstance(value, ast.Call):
        value = value.func
    if isinstance(value, ast.IfExp):
        yield from (*_names(value.body), *_names(value.orelse))
    elif isinstance(value, ast.BoolOp):
        yield from (name for each in value.values for name in _names(each))
    elif isinstance(value, ast.Name | ast.Attribute):
        yield value.id if isinstance(value, ast.Name) else value.attr


def _named(node: ast.AST, names: set[str]) -> Iterator[ast.expr]:
    """The values of what has one of these names: of a table each of its values, of a function what it returns."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(each, ast.Name) and each.id in names for each in targets):
            yield from node.value.values if isinstance(node.value, ast.Dict) else [node.value]
    elif isinstance(node, ast.FunctionDef) and node.name in names:
        yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)


def _commands(nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """The texts with a line for vmtool in them that are neither a docstring nor a part of another text."""
    inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr | ast.BinOp)
             for part in ast.walk(node) if part is not node}
    inner |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and id(node) not in inner and any(
                COMMAND.search(text) for text in _texts(node)):
            yield node


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
