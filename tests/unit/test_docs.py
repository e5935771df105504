"""README and the pages of docs/: commands that exist, links that lead somewhere, specs that parse."""

from __future__ import annotations

import configparser
import re
from itertools import pairwise
from pathlib import Path

import click
import pytest

from tests import page_commands as runs
from tests import pages as d
from vmtool import documents
from vmtool.cli.main import vmtool
from vmtool.connect.policy import read_policy
from vmtool.errors import Refused
from vmtool.rootfs.recipe.load import read_rootfs_recipe
from vmtool.spec.load import read_spec

COMMANDS = [command for page in d.PAGES for command in d.commands(page)]
INLINE = [command for page in d.PAGES for command in d.inline_commands(page)]
FILES = [block for page in d.PAGES for block in d.blocks(page) if block.file.endswith(".yaml")]
# Headings of CONTRIBUTING, each with a list.
HOW_TO = ("Set up", "Test", "Add an action", "Add a noun", "Add a launcher", "Add a TEE",
          "Add a release of Kata")


@pytest.fixture(autouse=True)
def files_are_taken_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line is parsed, not run: a file that it names need not exist."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))


def parse(words: tuple[str, ...]) -> click.Command:
    """The command that an argument list ends at, once every option and argument was accepted.

    Raises:
        click.UsageError: it was not.
    """
    command: click.Command = vmtool
    name, rest, context = "vmtool", list(words), None
    while True:
        try:
            context = command.make_context(name, rest, parent=context)
        except click.exceptions.Exit:  # of --help and --version
            return command
        if not isinstance(command, click.Group):
            return command
        found, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert sub is not None
        name, command = str(found), sub


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.place)
def test_each_command_line_can_be_typed(command: d.Command) -> None:
    for words in command.programs:
        if words[0] == "vmtool":
            parse(words[1:])
        elif words[0].startswith("scripts/"):
            script = (d.ROOT / words[0]).read_text()
            unknown = [word for word in words[1:] if not re.search(rf"(^|[^\w-]){re.escape(word)}\b", script)]
            assert not unknown, f"{words[0]} does not know {unknown}"
        else:
            assert words[0] in (*runs.HARMLESS, "curl", ".venv/bin/python"), f"{words[0]}: an unknown program"


@pytest.mark.parametrize("words", ["kata render", "kata rendr s.yaml", "gpu bind --al", "run a.yaml b.yaml", "net add"
                                   " blue --publish x", "gpu cc-mode set maybe", "rootfs add file i.img /a"])
def test_a_command_line_with_a_mistake_does_not_parse(words: str) -> None:
    with pytest.raises(click.UsageError):
        parse(tuple(words.split()))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.place)
def test_each_command_line_is_run_by_a_test_or_says_what_hardware_it_needs(command: d.Command) -> None:
    ways = {"says what it needs": bool(command.needs), "is run elsewhere": command.text in runs.ELSEWHERE,
            "is of the quickstart": runs.is_quickstarts(command), "is of networks": runs.is_networks(command),
            "changes nothing": runs.is_reading(command)}
    assert sum(ways.values()) == 1, (f"{command.text!r}: mark it with `# needs ...`, or name the test that runs it in "
                                     f"page_commands.ELSEWHERE: {ways}")
    assert not command.needs or command.needs in d.NEEDS


def test_no_row_of_the_table_is_stale() -> None:
    assert set(runs.ELSEWHERE) <= {command.text for command in COMMANDS}
    defined = set(re.findall(r"^def (\w+)\(", "\n".join(
        path.read_text() for path in (d.ROOT / "tests").rglob("*.py")), re.MULTILINE))
    assert {name for name in runs.ELSEWHERE.values() if name != runs.TESTS} <= defined


@pytest.mark.parametrize("command", INLINE, ids=lambda command: f"{command.place} {command.text}"[:60])
def test_each_command_in_running_text_exists(command: d.Command) -> None:
    """As a synopsis: NAME for an argument, a|b for alternatives, [...] for what may be left out."""
    at: click.Command = vmtool
    words = command.text.split()[1:]
    while isinstance(at, click.Group) and words:
        names, context = words.pop(0).split("|"), click.Context(at)
        subs = {name: at.get_command(context, name) for name in names}
        assert all(subs.values()), f"{command.place}: {at.name} has no {[name for name in names if not subs[name]]}"
        if len(names) > 1:
            return
        at = subs[names[0]] or at
    known = {option for param in at.params for option in (*param.opts, *param.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(words))) <= known, command.place


@pytest.mark.parametrize("block", FILES, ids=lambda block: f"{block.page}:{block.file}")
def test_each_file_that_is_shown_is_valid_unless_it_is_called_bad(block: d.Block, tmp_path: Path) -> None:
    path = tmp_path / block.file
    path.write_text("\n".join(block.lines) + "\n")
    document = documents.read(path).value
    assert isinstance(document, dict)
    if document["kind"] == "GuestImage":
        read_rootfs_recipe(path)
    elif document["kind"] == "ConnectPolicy":
        read_policy(path)
    elif block.file == "bad.yaml":
        with pytest.raises(Refused) as refused:
            read_spec(path)
        shown = (d.ROOT / block.page).read_text()
        for line in refused.value.details:
            assert line.replace(str(path), block.file) in shown, "what the page shows is what vmtool says"
    else:
        read_spec(path)


@pytest.mark.parametrize("page", d.PAGES, ids=d.NAMES)
def test_each_link_leads_somewhere(page: Path) -> None:
    for line, target in d.links(page):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.is_file(), f"{page.name}:{line}: {target}: no such file"
        assert not anchor or anchor in d.anchors(other), f"{page.name}:{line}: {target}: no such heading"


def test_each_page_is_found_from_readme() -> None:
    seen, left = set(), [d.ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        left += [path for _, target in d.links(page) if not target.startswith("https://") and target[0] != "#"
                 for path in [(page.parent / target.partition("#")[0]).resolve()] if path.suffix == ".md"
                 and path not in seen]
    assert set(d.PAGES) <= seen


def test_readme_is_read_in_ten_minutes() -> None:
    assert len((d.ROOT / "README.md").read_text().splitlines()) <= 200


def test_each_list_of_contributing_has_at_most_ten_lines() -> None:
    text = (d.ROOT / "CONTRIBUTING.md").read_text()
    sections = dict(re.findall(r"^## (.+)\n([\s\S]*?)(?=^## |\Z)", text, re.MULTILINE))
    assert set(HOW_TO) <= set(sections)
    for heading, body in sections.items():
        items = [line for line in body.splitlines() if re.match(r"\d+\. |- |  ", line)]
        assert len(items) <= 10, heading
        assert heading not in HOW_TO or items, heading
        numbers = [int(line.partition(".")[0]) for line in items if line[0].isdigit()]
        assert all(after == before + 1 for before, after in pairwise(numbers)), heading


def test_the_package_carries_license_and_readme() -> None:
    config = configparser.ConfigParser()
    config.read(d.ROOT / "setup.cfg")
    metadata = config["metadata"]
    assert (metadata["license"], metadata["license_files"]) == ("Apache-2.0", "LICENSE")
    assert "Apache License\n                           Version 2.0" in (d.ROOT / "LICENSE").read_text()
    assert metadata["long_description"] == "file: README.md"


def test_each_alert_is_explained_to_whom_it_wakes() -> None:
    alerts = re.findall(r"alert: (\w+)", (d.ROOT / "templates" / "metrics" / "alerts.j2").read_text())
    page = (d.ROOT / "docs" / "service.md").read_text()
    assert len(alerts) > 5
    assert [alert for alert in alerts if f"`{alert}`" not in page] == []
