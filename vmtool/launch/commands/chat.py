"""`vmtool chat`: one question to an instance's model."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from vmtool.cli.numbers import Number, Seconds
from vmtool.cli.output import print_json
from vmtool.cli.streams import harmless
from vmtool.endpoint import client
from vmtool.host.local import LocalHost
from vmtool.launch.commands.instance import running
from vmtool.paths import State


@click.command()
@click.argument("name")
@click.argument("question")
@click.option("--stream", is_flag=True, help="Show the answer as it is made.")
@click.option("--temperature", type=Number(0, 2), default=0.0, show_default=True)
@click.option("--timeout", type=Seconds(0.1), default=300.0, show_default=True, help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def chat_command(state: State, name: str, question: str, stream: bool, temperature: float, timeout: float,
                 as_json: bool) -> None:
    """Ask an instance's model a question. Exit code 1 when the answer is not a whole one."""
    instance = running(state, name)
    record = instance.known()
    host = LocalHost()
    url, key = client.address_of(host, record.server), instance.paths.key
    started = time.monotonic()
    if stream and not as_json:
        show_stream(client.stream(host, url, key, record.model, question, deadline=timeout, temperature=temperature))
        return
    answer = client.ask(host, url, key, record.model, question, deadline=timeout, temperature=temperature)
    if as_json:
        print_json(instance=name, model=record.model, question=question, answer=answer.text,
                   finish_reason=answer.finish, seconds=round(time.monotonic() - started, 3), tee=record.tee)
    elif answer.text:
        click.echo(harmless(answer.text))
    answer.require()


def show_stream(pieces: Iterator[str]) -> None:
    """Print an answer as it is made; what is printed ends with a line break, also when the rest does not come."""
    begun = False
    try:
        for piece in pieces:
            click.echo(harmless(piece), nl=False)
            begun = True
    finally:
        if begun:
            click.echo()
