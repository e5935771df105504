"""`vmtool events`: what has happened to an instance."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import click

from vmtool.cli.output import SCHEMA, printable
from vmtool.errors import VmtoolError
from vmtool.host import event_log
from vmtool.host.event_log import Recorded
from vmtool.paths import State

POLL = 0.3


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the instance is removed or Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=200, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in each line.")
@click.pass_obj
def events_command(state: State, name: str, follow: bool, lines: int, as_json: bool) -> None:
    """Show what has happened to an instance: starts, stops, restarts, health, canary, GPUs, and what watch did."""
    directory = state.instance(name)
    if not directory.is_dir():
        raise VmtoolError(f"there is no instance {name!r}", hint="vmtool ps")
    following = _Following(directory)
    known = following.new()
    if not known:
        click.echo(f"nothing has happened to {name} yet", err=True)
    for event in known[len(known) - lines:] if lines < len(known) else known:
        show_event(event, as_json)
    while follow and directory.is_dir():
        time.sleep(POLL)
        for event in following.new():
            show_event(event, as_json)


def show_event(event: Recorded, as_json: bool) -> None:
    """One line."""
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, **event}))
        return
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    others = "  ".join(f"{name}={value}" for name, value in event.items() if name not in ("at", "event", "source"))
    click.echo(printable(f"{at}  {event['source']:6}  {event['event']:16}  {others}".rstrip()))


class _Following:
    """The events of a directory, each once, reading no more than what has been written since."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shown: set[str] = set()
        self.marks: tuple[object, ...] = ()

    def new(self) -> list[Recorded]:
        marks = tuple(self._mark(name) for name in (Path(event_log.NAME), *event_log.GUEST_LOGS))
        if marks == self.marks:
            return []
        self.marks = marks
        return list(self._unshown())

    def _unshown(self) -> Iterator[Recorded]:
        for event in event_log.read(self.directory):
            text = json.dumps(event, sort_keys=True)
            if text not in self.shown:
                self.shown.add(text)
                yield event

    def _mark(self, name: Path) -> object:
        try:
            found = (self.directory / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size
