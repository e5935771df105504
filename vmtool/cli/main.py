"""The root command. Sub-commands are imported when they are typed, so that `vmtool --help` stays quick."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Mapping, Sequence

import click

from vmtool import __version__
from vmtool.cache import Cache
from vmtool.cli.lazy import LazyGroup
from vmtool.cli.streams import harmless, safe_streams
from vmtool.errors import FULL, Explained, NotReady, Refused, system_error
from vmtool.host.isolate import check_owner, isolate
from vmtool.host.nested_state import check_apart
from vmtool.paths import State

# name -> (module below vmtool, the line of --help). The command in the module is named like the command.
COMMANDS = {
    "doctor": ("doctor.commands", "Look whether this host can do it; every finding has a hint."),
    "plan": ("launch.commands.plan", "Show what `run` would do."),
    "spec": ("spec.commands", "Explain runtime.yaml: keys, examples, a schema for editors."),
    "run": ("launch.commands.run", "Start the runtime of a spec and prove that it answers."),
    "ps": ("launch.commands.ps", "List the instances."),
    "status": ("launch.commands.status", "Look at an instance now: what is proven, what was not checked."),
    "logs": ("launch.commands.logs", "Show what an instance wrote."),
    "events": ("launch.commands.events", "Show what has happened to an instance."),
    "top": ("launch.commands.top", "Watch the instances: load, memory, restarts, GPUs."),
    "exec": ("launch.commands.instance", "Run a command inside an instance."),
    "start": ("launch.commands.start", "Start an instance again that was stopped or has ended."),
    "upgrade": ("launch.commands.upgrade", "Let a new one take an instance's place without a gap."),
    "stop": ("launch.commands.instance", "End an instance's process; keep the rest."),
    "rm": ("launch.commands.instance", "Remove an instance and everything it started."),
    "watch": ("watch.commands", "Keep the instances as they were promised, for as long as it runs."),
    "recover": ("launch.commands.recover", "Undo what interrupted commands left behind."),
    "chat": ("launch.commands.chat", "Ask an instance's model a question."),
    "token": ("launch.commands.token", "Add, list and revoke named tokens of an instance."),
    "metrics": ("metrics.commands", "Print metrics, a dashboard and alert rules for Prometheus and Grafana."),
    "ca": ("tls.commands", "Show, export and renew: certificates of endpoints, of vmtool's own CA."),
    "image": ("image.commands", "Build, import and list container images."),
    "rootfs": ("rootfs.commands.group", "Build, grow, add to, inspect, verify and boot guest images."),
    "model": ("models.commands", "Make small models; encrypt models, and verify encrypted ones."),
    "key": ("models.key.commands", "Make, show and serve the keys of encrypted models."),
    "net": ("net.commands", "Add, check, reset and remove container networks."),
    "gpu": ("gpu.commands.show", "List GPUs, bind them to VFIO, give them back."),
    "kata": ("kata.commands", "Render, check and explain Kata's configuration."),
    "libvirt": ("launch.commands.libvirt", "Render libvirt's domains."),
    "attest": ("launch.commands.attest", "Verify evidence of what a guest runs in, and what it must show."),
    "connect": ("connect.commands", "Be a local endpoint that verifies a server before it speaks to it."),
    "completion": ("cli.completion", "Print the completion script of a shell."),
}
# The words of a neighbouring tool.
ALIASES = {"precheck": "doctor", "infer": "chat", "apply": "run"}
# What an ordinary user may ask too.
STATELESS = ("doctor", "spec", "precheck", "completion", "attest", "connect", "gpu", "kata", "key", "rootfs")


@click.group(cls=LazyGroup, rooms=COMMANDS, aliases=ALIASES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state-dir", metavar="DIR", help="Where vmtool remembers [VMTOOL_STATE_DIR, /var/lib/vmtool].")
@click.version_option(__version__, prog_name="vmtool")
@click.pass_context
def vmtool(ctx: click.Context, state_dir: str | None) -> None:
    """Take a bare Linux server to a confidential vLLM endpoint, and prove each step."""
    ctx.obj = State.at(state_dir)
    for place in (ctx.obj.root, Cache.at().root):
        check_owner(place)
    if ctx.invoked_subcommand not in STATELESS:
        ctx.obj.check_readable()
    check_apart(ctx.obj)


def main() -> None:
    """Entry point of the program."""
    # Most of what a command makes it keeps until its end: to look through all of it again and again while it is
    # imported (every 700 objects, by default) was a twentieth of its time.
    gc.set_threshold(100_000, 20, 20)
    try:
        run_isolated()
    except SystemExit as end:
        # Everything is closed and printed. Taking Python apart would take as long as a quick command does.
        if isinstance(end.code, int):
            os._exit(end.code)
        raise


def run_isolated() -> None:
    """Run a command as our code only, turn errors into text on stderr and an exit code; ends with SystemExit."""
    isolate()
    with safe_streams():
        run_command()


def run_command() -> None:
    """Run the command of `sys.argv`; ends with SystemExit."""
    try:
        check_text(sys.argv[1:], os.environ)
        # Outside its standalone mode click returns what `ctx.exit` was given.
        status = vmtool.main(prog_name="vmtool", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except PermissionError as error:
        show_error(NotReady(f"{error.filename}: permission denied", hint="become root"))
        sys.exit(NotReady.code)
    except Explained as error:
        show_error(error)
        sys.exit(error.code)
    except OSError as error:
        # A transaction reports its own failures: this is a directory of vmtool's that is full, read-only or gone.
        shown = system_error(error, "vmtool")
        show_error(shown)
        sys.exit(NotReady.code if error.errno in (*FULL, errno.EROFS) else shown.code)
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("This is a fault of vmtool itself. Please report it with the lines above.", err=True)
        sys.exit(1)


def check_text(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Refuse what is not text: plans, journals and records are UTF-8, and would stop in the middle at such a name.

    Raises:
        Refused: an argument, the working directory, HOME or a variable of vmtool's own is not UTF-8.
    """
    given = {f"argument {number}": word for number, word in enumerate(words, 1)}
    with contextlib.suppress(FileNotFoundError):
        given["the working directory"] = os.getcwd()
    given |= {name: value for name, value in environment.items() if name == "HOME" or name.startswith("VMTOOL_")}
    for place, word in given.items():
        try:
            word.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(word).decode(errors="backslashreplace")
            raise Refused(f"{place} is not UTF-8: {shown}", hint="use a name in UTF-8; rename a file with another one"
                          ) from None


def show_error(error: Explained) -> None:
    """Message, details, hint, log: always in this order. Where nobody can read it, the exit code still says it."""
    with contextlib.suppress(OSError):
        click.secho(f"error: {harmless(error.message)}", fg="red", err=True)
        for line in error.details:
            click.echo(f"  {harmless(line)}", err=True)
        if error.hint:
            click.echo(f"hint: {harmless(error.hint)}", err=True)
        if error.log:
            click.echo(f"log: {error.log}", err=True)
