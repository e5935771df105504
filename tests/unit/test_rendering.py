"""One environment for all templates: what it escapes, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from vmtool import rendering


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rendering.environment(), "loader", jinja2.FileSystemLoader(tmp_path))
    monkeypatch.setattr(rendering.environment(), "cache", {})
    return tmp_path


def test_xml_is_escaped_and_nothing_else_is(templates: Path) -> None:
    for name in ("a.xml", "a.toml", "a"):
        (templates / f"{name}.j2").write_text("{{ x }}\n")
    rendered = {name: rendering.render_template(name, x="<'&") for name in ("a.xml", "a.toml", "a")}
    assert rendered == {"a.xml": "&lt;&#39;&amp;\n", "a.toml": "<'&\n", "a": "<'&\n"}


def test_an_unknown_name_is_an_error(templates: Path) -> None:
    (templates / "a.j2").write_text("{{ x }}")
    with pytest.raises(jinja2.UndefinedError, match="'x' is undefined"):
        rendering.render_template("a", y=1)


def test_a_block_on_a_line_of_its_own_leaves_no_line(templates: Path) -> None:
    (templates / "a.j2").write_text("one\n  {% if x %}\ntwo\n  {% endif %}\nthree\n")
    assert rendering.render_template("a", x=True) == "one\ntwo\nthree\n"


def test_jinja2_is_imported_in_one_place_and_when_something_is_rendered() -> None:
    """Most commands render nothing, and its import takes longer than they do."""
    package = Path(rendering.__file__).parent
    found = [(str(path.relative_to(package)), line) for path in package.rglob("*.py")
             for line in path.read_text().splitlines() if re.match(r"\s*(import|from) (jinja2|markupsafe)\b", line)]
    assert found == [("rendering.py", "    import jinja2"),
                     ("rendering.py", "    import jinja2  # takes longer than most commands")]
