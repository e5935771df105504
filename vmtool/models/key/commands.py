"""`vmtool key`: make and show the keys of encrypted models."""

from __future__ import annotations

from pathlib import Path

import click

from vmtool.cli.lazy import LazyGroup
from vmtool.errors import Refused, shell_word
from vmtool.host import files
from vmtool.models.encryption.keys import file_hint, new_master, new_signer, read_key_file, read_signer
from vmtool.serving.cryptotensors.jwk import ALGORITHMS, MasterKey, key_text

_FILE = click.Path(path_type=Path)
COMMANDS = {
    "generate": ("models.key.commands", "Make a key, in a new file of mode 0600."),
    "show": ("models.key.commands", "Show what key a file holds, without the key."),
    "export-public": ("models.key.commands", "Print the public part of a signing key."),
    "serve": ("broker.commands", "Release keys to guests that prove what they run in."),
}


@click.group(cls=LazyGroup, rooms=COMMANDS)
def key_command() -> None:
    """Make, show and serve the keys of encrypted models."""


@click.command("generate")
@click.option("-o", "out", type=_FILE, required=True, metavar="FILE", help="The new file, of mode 0600.")
@click.option("--sign", is_flag=True, help="A signing key (Ed25519), instead of a master key.")
@click.option("--alg", type=click.Choice(sorted(ALGORITHMS)), default="aes256gcm", show_default=True,
              help="What a master key encrypts with.")
def generate_command(out: Path, sign: bool, alg: str) -> None:
    """Make a key. It goes to the file alone; a file that is there is never replaced."""
    key = new_signer() if sign else new_master(alg)
    try:
        files.write_new(out, key_text(key).encode())
    except FileExistsError:
        raise Refused(f"{out}: exists, and a key is never replaced", hint="choose another name") from None
    except FileNotFoundError:
        raise Refused(f"{out.parent}: no such directory", hint=f"mkdir -p {shell_word(out.parent)}") from None
    except NotADirectoryError:
        raise Refused(f"{out.parent}: not a directory", hint="choose a file in another directory") from None
    click.echo(f"{out}: {key.kid}", err=True)


@click.command("show")
@click.argument("file", type=_FILE)
def show_command(file: Path) -> None:
    """Show what key a file holds, without the key."""
    key = read_key_file(file)
    if isinstance(key, MasterKey):
        click.echo(f"master key {key.kid}, {key.algorithm}")
    else:
        click.echo(f"{'signing key' if key.private else 'public part of a signing key'} {key.kid}, ed25519")


@click.command("export-public")
@click.argument("file", type=_FILE)
def export_public_command(file: Path) -> None:
    """Print the public part of the signing key in FILE: for those who check models."""
    hint = file_hint(file, "a signing key (vmtool key generate --sign -o FILE makes one)")
    click.echo(key_text(read_signer(file, private=False, hint=hint), public=True), nl=False)
