"""Work that is done in a process of its own: it has a deadline, and its memory ends with it.

A worker is a module of a room's folder workers/ with a frozen dataclass `Order` and a function `run(order, host)`.
`vmtool.engine.worker` is the program that reads an order and does it; what fails there is raised here again.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from vmtool.errors import ProgramFailed
from vmtool.frozen import dataclass
from vmtool.isolation import python
from vmtool.machine import Pairs, check
from vmtool.plan.action import Action, to_json
from vmtool.plan.error_report import decode_error

if TYPE_CHECKING:
    from vmtool.machine import Host

PROGRAM = python("-m", "vmtool.engine.worker")
# Characters of an order that is one line in a runbook.
_LINE = 120


@dataclass(frozen=True)
class RunWorker(Action):
    """Let a worker process do an order. `run_worker` makes one out of an `Order`.

    Args:
        name: "rootfs.build.merge_layers" for the module vmtool.rootfs.build.workers.merge_layers.
        order: its `Order` as JSON values.
        deadline: seconds until its process group is terminated.
        hint: what helps a person when it fails and gives no hint of its own.
        env: additions to the small fixed environment that every child gets.
        prefix: words before the program, such as those of a mount and process namespace of its own.
    """

    name: str
    order: dict[str, Any]
    deadline: float = 60.0
    hint: str = ""
    env: Pairs = ()
    prefix: tuple[str, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        return (*self.prefix, *PROGRAM, self.name, "-")

    def shell(self) -> str:
        words = [f"{name}={shlex.quote(value)}" for name, value in self.env] + [shlex.join(self.argv)]
        return f"{' '.join(words)} <<'EOF'\n{order_text(self.order)}\nEOF"

    def do(self, host: Host) -> None:
        """Do it.

        Raises:
            VmtoolError: what the worker raised: the same class, message, details and hint.
            ProgramFailed: it ended without a word, such as by a signal, or not in time.
        """
        result, report = host.work(self.argv, order_text(self.order).encode(), deadline=self.deadline, env=self.env)
        if error := decode_error(report):
            error.hint = error.hint or self.hint
            raise error
        check(("worker", self.name), result, self.hint)
        if report:
            raise ProgramFailed(f"worker {self.name}: what it reported is no error of vmtool's", hint=self.hint)


def run_worker(order: Any, *, deadline: float = 60.0, hint: str = "", env: Pairs = (),
               prefix: tuple[str, ...] = ()) -> RunWorker:
    """The action that has an `Order` done by the module that defines it."""
    return RunWorker(name_of(type(order).__module__), to_json(order), deadline, hint, env, prefix)


def question(order: Any) -> tuple[str, ...]:
    """The command line of a worker that only answers, for `Reader.run`: the order is one of its words."""
    return (*PROGRAM, name_of(type(order).__module__), order_text(to_json(order)))


def name_of(module: str) -> str:
    """The name of the worker that a module is."""
    room, _, last = module.removeprefix("vmtool.").rpartition(".workers.")
    return f"{room}.{last}"


def order_text(order: dict[str, Any]) -> str:
    """JSON that a person can read as well: one line when it is short, else one for each value."""
    whole = json.dumps(order)
    return whole if len(whole) <= _LINE else _lines(f"{json.dumps(name)}: {_value(value)}"
                                                    for name, value in order.items())


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return json.dumps(value)


def _lines(parts: Any) -> str:
    return "{\n " + ",\n ".join(parts) + "\n}"
