"""`scripts/lab`: make the lab's parts, or sit down at one of its machines."""

from __future__ import annotations

import argparse
import sys
import time

from tests.lab import topology
from tests.lab.cache import LabError
from tests.lab.lab import prepare
from tests.lab.vm import LabVm

MACHINES = {each.name: each for each in topology.ALL}


def main() -> int:
    """Parse the arguments and do it; 1 when the lab cannot be made."""
    parser = argparse.ArgumentParser(prog="scripts/lab", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make what the x86 and arm64 machines are made from").add_argument(
        "--arch", action="append", choices=["x86_64", "aarch64"])
    shell = verbs.add_parser("shell", help="the console of a machine, as root; `poweroff` ends it")
    shell.add_argument("machine", nargs="?", default="nvidia-pair", choices=sorted(MACHINES))
    arguments = parser.parse_args()
    try:
        return build(arguments.arch) if arguments.verb == "build" else sit_down(arguments.machine)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def build(architectures: list[str] | None) -> int:
    """Make the parts that are missing."""
    for arch in architectures or ["x86_64", "aarch64"]:
        started = time.monotonic()
        prepare(say, arch=arch)
        say(f"lab: {arch} is ready ({time.monotonic() - started:.0f} s)")
    return 0


def sit_down(name: str) -> int:
    """Give the terminal to a machine until it is powered off."""
    machine = MACHINES[name]
    with LabVm(prepare(say, arch=machine.arch), machine, interactive=True) as vm:
        say(f"lab: {name} is up: press Enter; `vmtool` is this checkout's; `poweroff` ends it\r")
        vm.process.wait()
    return 0


def say(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
