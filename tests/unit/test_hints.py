"""Every hint that the product prints can be followed: its commands, options and keys of the spec are there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from tests.hints import Hint, collect
from vmtool.cli.main import vmtool
from vmtool.spec.commands import find_key

HINTS = collect()
# Options in hints that are another program's.
FOREIGN = {"--runtime-config-path", "--detailed", "--sort", "--target", "--now", "--format", "--extra"}
# Words after "vmtool" in a sentence about it.
PROSE = {"again", "as", "built", "itself", "knows", "runs", "bound"}
STOP = re.compile(r"[;,()`|]| > | then\b|:(?=\s|$)")


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name) or command)


def options(command: click.Command) -> set[str]:
    return {spelling for each in command.params for spelling in (*each.opts, *each.secondary_opts)} | {"--help"}


EVERYWHERE = set().union(*map(options, commands(vmtool)))


def typed(text: str) -> Iterator[list[str]]:
    """The words of each `vmtool ...` in a text."""
    for found in re.finditer(r"\bvmtool (?=([a-z-].*))", text):
        yield STOP.split(found[1])[0].split()


def test_there_are_hints_in_every_room() -> None:
    rooms = {hint.place.split("/")[1] for hint in HINTS if hint.place.count("/") > 1}
    assert len(HINTS) > 400 and len(rooms) > 15


@pytest.mark.parametrize("hint", [hint for hint in HINTS if "vmtool " in hint.text], ids=lambda hint: hint.place)
def test_a_command_of_vmtool_is_one_with_the_options_that_it_takes(hint: Hint) -> None:
    for words in typed(hint.text):
        command: click.Command = vmtool
        rest = list(words)
        while rest and isinstance(command, click.Group):
            # What stands before a command are options of vmtool's own, and their values.
            while rest and rest[0].startswith("--"):
                assert rest[0] in options(command), (hint, rest[0])
                rest = rest[2:]
            found = command.get_command(click.Context(command), rest[0]) if rest else None
            if found is None:
                break
            command, rest = found, rest[1:]
        assert command is not vmtool or words[0].rstrip(":,") in PROSE or words[0] == "--state-dir", hint
        for word in rest:
            if word.startswith("--") and word.rstrip(":"):
                assert word.partition("=")[0] in options(command), f"{hint}: {command.name} has no {word}"


@pytest.mark.parametrize("hint", [hint for hint in HINTS if re.search(r"(^|\s)--[a-z]", hint.text)],
                         ids=lambda hint: hint.place)
def test_an_option_is_one(hint: Hint) -> None:
    """Also where no command is before it. What follows another program's name is that program's."""
    from vmtool.serving.vllm_options import table

    foreign = re.search(r"\b(ps|pip|ctr|findmnt|systemctl|skopeo|iptables|ip|sudo|docker) ", hint.text)
    for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", hint.text):
        known = word in EVERYWHERE or word in FOREIGN or word[2:] in table().options
        assert known or foreign, f"{hint.place}: {word} is no option of vmtool's"


@pytest.mark.parametrize("hint", [hint for hint in HINTS if re.search(r"\bspec\.[a-z]", hint.text)],
                         ids=lambda hint: hint.place)
def test_a_key_of_the_spec_is_one(hint: Hint) -> None:
    for path in re.findall(r"\bspec\.[a-z_]+(?:\.[a-z_]+)*", hint.text):
        assert find_key(path)


def test_a_hint_is_one_line_and_is_no_shell_string_of_foreign_words() -> None:
    for hint in HINTS:
        assert ("\n" not in hint.text and hint.text == hint.text.strip()) or hint.text.startswith(";"), hint
