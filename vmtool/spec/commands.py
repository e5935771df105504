"""`vmtool spec`: help for whoever writes a runtime.yaml."""

from __future__ import annotations

import difflib

import click

from vmtool.errors import Refused
from vmtool.rendering import shipped
from vmtool.spec.keys import Key, all_keys

EXAMPLES = {"runc": "quickstart.yaml", "kata": "kata.yaml", "libvirt": "libvirt.yaml"}


@click.group()
def spec_command() -> None:
    """Explain runtime.yaml: its keys, whole examples, and a schema for editors."""


@spec_command.command("explain")
@click.argument("path", default="")
def explain(path: str) -> None:
    """Say what a key means, takes and defaults to; without PATH, list all keys."""
    if not path:
        for key in all_keys():
            click.echo(_line(key))
        return
    key = find_key(path)
    click.echo(key.path)
    for title, text in (("meaning", key.meaning), ("type", key.type + (", required" if key.required else "")),
                        ("default", key.default), ("example", key.example and f"{_name(key)}: {key.example}")):
        if text:
            click.echo(f"  {title:<8} {text}")
    for inner in key.inner:
        click.echo(_line(inner))


@spec_command.command("example")
@click.argument("handler", type=click.Choice(list(EXAMPLES)))
def example(handler: str) -> None:
    """Print a whole runtime.yaml for a handler."""
    click.echo((shipped("images") / EXAMPLES[handler]).read_text(), nl=False)


@spec_command.command("schema")
def schema() -> None:
    """Print the JSON Schema of runtime.yaml, for editors."""
    from vmtool.spec.json_schema import schema_text

    click.echo(schema_text(), nl=False)


def find_key(path: str) -> Key:
    """The key of that path; `spec.` at its beginning may be left out, and what follows a free mapping is its own.

    Raises:
        Refused: there is none.
    """
    known = {key.path: key for key in all_keys()}
    words = path.strip(".").split(".")
    for length in range(len(words), 0, -1):
        for candidate in (".".join(words[:length]), ".".join(("spec", *words[:length]))):
            found = known.get(candidate)
            if found and (length == len(words) or "mapping" in found.type or "list" in found.type):
                return found
    near = difflib.get_close_matches(path, [*known, *(name.removeprefix("spec.") for name in known)], n=1)
    raise Refused(f"{path}: a spec has no such key" + (f"; did you mean {near[0]!r}?" if near else ""),
                  hint="vmtool spec explain")


def _line(key: Key) -> str:
    return f"  {key.path:<40} {key.meaning}".rstrip()


def _name(key: Key) -> str:
    return key.path.rpartition(".")[2]
