"""`vmtool logs`: what an instance wrote."""

from __future__ import annotations

import io
import os
import time
from collections import deque
from pathlib import Path

import click

from vmtool.errors import VmtoolError
from vmtool.foreign import open_file
from vmtool.host.bounded_log import TAIL
from vmtool.host.local import LocalMachine
from vmtool.instance.instance import Instance
from vmtool.instance.read import read_instance
from vmtool.launch.commands.damage import read_known
from vmtool.paths import State

# Bytes that are shown of a line that began before what is looked at.
LONG_LINE = 64 << 10


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until the instance ends or Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=200, show_default=True, help="Of each log.")
@click.option("--host", "host_side", is_flag=True, help="What vmtool did on the host, with every command's output.")
@click.pass_obj
def logs_command(state: State, name: str, follow: bool, lines: int, host_side: bool) -> None:
    """Show what an instance wrote; of one that never wrote anything, what vmtool did."""
    instance = read_known(LocalMachine(), state, name)
    host_log = instance.paths.directory / "log" / "host.log"
    path = host_log if host_side or not instance.paths.log.exists() else instance.paths.log
    if not path.exists():
        raise VmtoolError(f"{name} has written nothing yet", hint=f"vmtool status {name}")
    _show(path, lines, follow, state, instance)


def _show(path: Path, lines: int, follow: bool, state: State, instance: Instance) -> None:
    opened = open_file(path)
    size = os.fstat(opened.fileno()).st_size
    # Of a long one the middle may be gone, and nobody wants to read all of it.
    if opened.seek(max(0, size - TAIL)):
        opened.readline()
        if opened.tell() >= size:  # one line without an end
            opened.seek(max(0, size - LONG_LINE))
    with io.TextIOWrapper(opened, encoding="utf-8", errors="replace") as file:
        for line in deque(file, maxlen=lines):
            click.echo(line, nl=False)
        while follow:
            text = file.read()
            click.echo(text, nl=False)
            if not text:
                now = read_instance(state, instance.name)
                if now.pid is None and now.state != "starting":
                    return
                time.sleep(0.2)
