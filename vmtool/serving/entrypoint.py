"""PID 1 of the container: starts vLLM (or the small server) on a Unix socket, runs the front, ends when either does.

Before anything else it waits for the file with the keys: whoever launched it may want to look at the guest first.

    python3 -m vmtool.serving.entrypoint --model DIR --served-model-name NAME --api-key-file FILE [-- VLLM_ARGUMENTS]

Exit status: 0 stopped by SIGTERM or SIGINT, 1 vLLM died or the front could not listen, 2 wrong arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.serving.api_keys import read_keys
from vmtool.serving.arguments import Arguments, engine_command, parse

if TYPE_CHECKING:
    from vmtool.serving.front import Front

BEGAN = time.monotonic()
PR_SET_DUMPABLE = 4
PREPARED = Path("/opt/vmtool/modelinfos")


def main(argv: list[str] | None = None) -> int:
    """Serve until stopped; the return value is the exit status."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    directory = Path(tempfile.mkdtemp(prefix="vllm-"))  # mode 0700
    try:
        return asyncio.run(serve(arguments, directory / "vllm.sock"))
    except (OSError, ValueError) as error:
        say(f"cannot start: {error}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def serve(arguments: Arguments, upstream: Path) -> int:
    """Run vLLM and the front side by side.

    Raises:
        OSError: no permission to read the keys or to listen.
        ValueError: the key file holds no usable key.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if not await appears(arguments.key_file, stop):
        say("stopped before there was a key")
        return 0
    keys = take_keys(arguments.key_file)
    listening = listen(arguments.listen)
    use_prepared_cache()
    say(f"starting {arguments.server}")
    # vLLM first: while it imports torch, this process has the time to import what the front needs.
    child = Child(arguments.server, engine_command(arguments, sys.executable, upstream))
    loop.add_signal_handler(signal.SIGCHLD, child.reap)
    child.reap()  # it may have ended before the handler was there
    try:
        with contextlib.closing(listening):
            front = make_front(arguments, keys, upstream)
            serving = asyncio.create_task(run_front(front, listening))
            announcing = asyncio.create_task(announce(front, arguments.server))
            say(f"the front listens on {arguments.listen[0]}:{arguments.listen[1]}")
            ended = asyncio.create_task(child.ended.wait())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            announcing.cancel()
            serving.cancel()
            await asyncio.gather(serving, announcing, return_exceptions=True)
    finally:
        await child.stop(arguments.grace)
    if stop.is_set():
        say("stopped")
        return 0
    say(f"{arguments.server} died: {describe(child.status)}" if ended.done() else "the front ended")
    return 1


async def appears(file: Path, stop: asyncio.Event) -> bool:
    """Wait for a file, without end: a launch that fails ends this process. False when it was stopped first."""
    if not file.exists():
        say(f"waiting for {file}")
    while not file.exists():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.05)
            return False
    return True


def take_keys(file: Path) -> tuple[bytes, ...]:
    """The keys, which are then nowhere but in this process: the engine runs as the same user.

    A process that cannot be dumped keeps its memory from others of its user (prctl(2), PR_SET_DUMPABLE).
    """
    keys = read_keys(file)
    try:
        file.unlink()
    except OSError as error:
        say(f"{file} stays, since it cannot be removed: {error.strerror}")
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    return keys


class Child:
    """The engine in a session of its own, so that signals reach its workers as well."""

    def __init__(self, name: str, argv: tuple[str, ...]) -> None:
        self.name = name
        self.ended = asyncio.Event()
        self.status = 0
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)

    def reap(self) -> None:
        """Collect every child that has ended: PID 1 inherits the orphans of the whole container."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.process.pid:
                    self.status = ended[1]
                    self.process.returncode = os.waitstatus_to_exitcode(ended[1])
                    self.ended.set()

    async def stop(self, grace: float) -> None:
        """SIGTERM, wait at most `grace` seconds, SIGKILL; nothing of its session is left after it."""
        if not self.ended.is_set():
            say(f"stopping {self.name}")
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace)
        self.signal(signal.SIGKILL)
        if not self.ended.is_set():
            await self.ended.wait()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def listen(address: tuple[str, int]) -> socket.socket:
    """A TCP socket bound to the address; bound before vLLM is started, so that a port in use is reported at once.

    The protocol is named: asyncio sets TCP_NODELAY only on connections of a socket that says IPPROTO_TCP, and without
    it each answer's second segment waits 40 ms for the peer's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {error.strerror}") from error
    return bound


def make_front(arguments: Arguments, keys: tuple[bytes, ...], upstream: Path) -> Front:
    """The front, imported only now: its libraries take a while."""
    from vmtool.serving.front import Engine, Front, Limits, fitting

    limits = fitting(Limits())
    return Front(Engine(upstream, limits.buffered), keys, allow_from=arguments.allow_from, limits=limits, log=say)


async def run_front(front: Front, listening: socket.socket) -> None:
    """Serve HTTP on the socket until cancelled."""
    from vmtool.serving.front import serve

    await serve(front, listening, say)


async def announce(front: Front, server: str) -> None:
    """Say once when the engine answers."""
    while not await front.engine.up():
        await asyncio.sleep(0.2)
    say(f"{server} answers")


def use_prepared_cache() -> None:
    """Copy what the image build has found out about common architectures to where vLLM looks for it.

    It saves the start of one more Python with torch, about 7 s on two cores. vLLM checks a hash of its own source
    beside each entry, so a stale one does no harm.
    """
    cache = os.environ.get("VLLM_CACHE_ROOT")
    if cache and PREPARED.is_dir():
        try:
            shutil.copytree(PREPARED, Path(cache) / "modelinfos", dirs_exist_ok=True)
        except OSError:
            say(f"the prepared cache cannot be copied to {cache}: the start takes longer")


def describe(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def say(text: str) -> None:
    """One line on stdout with the seconds since the start."""
    print(f"vmtool {time.monotonic() - BEGAN:8.2f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
