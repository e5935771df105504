"""Groups whose commands are imported when they are typed, so that `--help` and quick commands stay quick."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from vmtool.errors import ProgramMissing
from vmtool.extras import adding

# name -> (module below vmtool, the line of --help). The command in the module is named like the command.
Rooms = Mapping[str, tuple[str, str]]
# Packages that whole commands need, of one room or of any -> the extra of setup.cfg that has them.
EXTRAS = {"cryptography": "models", "tls.cryptography": "tls", "rfc8785": "broker"}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help lines without importing them.

    Args:
        aliases: other words for some of them.
    """

    def __init__(self, *arguments: Any, rooms: Rooms, aliases: Mapping[str, str] | None = None, **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.rooms, self.aliases = rooms, aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.rooms)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        if name not in self.rooms:
            return None
        try:
            module = importlib.import_module(f"vmtool.{self.rooms[name][0]}")
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            extra = EXTRAS.get(f"{self.rooms[name][0].partition('.')[0]}.{error.name}", EXTRAS[error.name])
            raise ProgramMissing(f"this command needs the Python package {error.name}",
                                 hint=adding(extra)) from error
        command: click.Command = getattr(module, f"{name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.rooms.items()])
