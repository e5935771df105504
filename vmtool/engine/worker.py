"""A worker process: one order, done by the module that it is for.

    python -I -m vmtool.engine.worker NAME ORDER

NAME is rootfs.build.merge_layers for the module vmtool.rootfs.build.workers.merge_layers; ORDER is its `Order` in JSON,
or - to read that from standard input. An error goes to the descriptor that the variable VMTOOL_REPORT names, as
`vmtool.plan.error_report` has it; without one, to standard error. All else that is printed is the worker's output.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from vmtool.errors import Explained, Interrupted, Refused, system_error
from vmtool.host.local import LocalHost
from vmtool.machine import REPORT, Host
from vmtool.plan.error_report import encode_error
from vmtool.records import record_of


def do_order(name: str, text: str, host: Host) -> None:
    """Do the order that the text holds.

    Raises:
        VmtoolError: there is no such worker, it is no order for it, or it failed.
    """
    module = _module(name)
    try:
        order = record_of(module.Order, text)
    except ValueError as error:
        raise Refused(f"{name}: not an order of this vmtool: {error}") from error
    try:
        module.run(order, host)
    except OSError as error:
        raise system_error(error, name) from error


def _module(name: str) -> Any:
    room, _, last = name.rpartition(".")
    found = None
    if all(part.isidentifier() for part in (*room.split("."), last)):
        try:
            found = importlib.import_module(f"vmtool.{room}.workers.{last}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("vmtool."):
                raise                                   # a library that the worker needs
    if not hasattr(found, "Order"):
        raise Refused(f"{name}: not a worker of this vmtool")
    return found


def _report(error: Explained, descriptor: str | None) -> None:
    if descriptor:
        with os.fdopen(int(descriptor), "wb") as file:
            file.write(encode_error(error))
        return
    lines = [*error.details, error.message, *([f"hint: {error.hint}"] if error.hint else [])]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _terminated(number: int, _frame: object) -> None:
    """Ctrl-C and a deadline end a worker so: what it has begun it can still clean up."""
    raise Interrupted(f"the worker was ended by {signal.Signals(number).name}")


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 2:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, _terminated)
    name, order = words
    descriptor = os.environ.pop(REPORT, None)
    if descriptor:
        os.set_inheritable(int(descriptor), False)
    try:
        # What a worker runs is shown with its output, apart from what it answers.
        do_order(name, sys.stdin.read() if order == "-" else order, LocalHost(sys.stderr))
    except Explained as error:
        _report(error, descriptor)
        sys.exit(error.code)


if __name__ == "__main__":
    main(sys.argv[1:])
