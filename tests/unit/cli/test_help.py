"""The words of the command line: `--help` of every command and group, held in golden files.

A change of a command, an option or a text shows here as a difference of tests/golden/cli/help. To write the files
again: `VMTOOL_WRITE_GOLDEN=1 python -m pytest tests/unit/cli`, then look at the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vmtool.cli.main import ALIASES, vmtool
from vmtool.cli.numbers import Number

GOLDEN = Path(__file__).parents[2] / "golden" / "cli" / "help"
WIDTH = 100


def walk(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command and group, the root's own (none) first; a lazy group imports what it is asked for."""
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None, f"{' '.join((*words, name))} is listed and is not there"
            yield from walk(found, (*words, name))


COMMANDS = tuple(walk(vmtool))


def shown(words: tuple[str, ...], state: Path, option: str = "--help") -> str:
    """What the command prints on a terminal of a fixed width."""
    result = CliRunner().invoke(vmtool, ["--state-dir", str(state), *words, option], prog_name="vmtool",
                                terminal_width=WIDTH, max_content_width=WIDTH)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def name_of(words: tuple[str, ...]) -> str:
    return "-".join(("vmtool", *words)) + ".txt"


@pytest.mark.parametrize("words", COMMANDS, ids=name_of)
def test_help(words: tuple[str, ...], tmp_path: Path) -> None:
    text, file = shown(words, tmp_path), GOLDEN / name_of(words)
    if os.environ.get("VMTOOL_WRITE_GOLDEN"):
        file.write_text(text)
    assert file.is_file(), f"a new command: write {file.name}, as the head of this file says"
    assert file.read_text() == text


def test_every_golden_file_is_of_a_command_and_every_command_has_one() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {name_of(words) for words in COMMANDS}


@pytest.mark.parametrize("words", COMMANDS, ids=name_of)
def test_the_short_option_shows_the_same(words: tuple[str, ...], tmp_path: Path) -> None:
    assert shown(words, tmp_path, "-h") == (GOLDEN / name_of(words)).read_text()


def test_the_neighbours_words_lead_to_the_same_commands() -> None:
    assert ALIASES == {"precheck": "doctor", "infer": "chat", "apply": "run"}
    context = click.Context(vmtool)
    for alias, name in ALIASES.items():
        assert vmtool.get_command(context, alias) is vmtool.get_command(context, name)


def test_every_option_with_a_number_that_has_a_point_takes_finite_ones_alone() -> None:
    """Not a number (nan) lies within every range to click."""
    for words in COMMANDS:
        command: click.Command = vmtool
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word) or command
        for option in command.params:
            assert not isinstance(option.type, click.types.FloatParamType) or isinstance(option.type, Number), (
                f"vmtool {' '.join(words)}: {option.opts}")
