"""Every Python that vmtool starts is kept from the working directory: with -I on the host, -P in an image."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import parsed

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "vmtool").rglob("*.py"))
IMAGES = sorted((ROOT / "images").rglob("Containerfile"))


def programs(tree: ast.Module) -> Iterator[list[str]]:
    """The words of each tuple or list in a module that starts a Python module; what is not a literal is a "?"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List):
            words = [str(each.value) if isinstance(each, ast.Constant) else "?" for each in node.elts]
            first = ast.unparse(node.elts[0]) if node.elts else ""
            if "-m" in words and re.search("python|sys.executable", first):
                yield words


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_child_python_looks_for_modules_where_a_person_stands(path: Path) -> None:
    for words in programs(parsed(path)):
        assert words[words.index("-m") - 1] in ("-I", "-P"), f"{words}: no -I or -P before -m"


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.parent.name)
def test_no_image_starts_modules_of_its_working_directory(path: Path) -> None:
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", path.read_text(), re.MULTILINE)
    assert json.loads(entrypoint)[:3] == ["python3", "-P", "-m"]


def test_the_search_finds_programs() -> None:
    assert sum(1 for path in SOURCES for _ in programs(parsed(path))) > 6
    assert list(programs(ast.parse("run((sys.executable, '-m', 'pip'))"))) == [["?", "-m", "pip"]]
