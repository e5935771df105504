"""PID 1 of the container: keeps vLLM (or the small server) running on a Unix socket, and the front before it.

Before anything else it waits for the file with the keys: whoever launched it may want to verify the guest first. An
engine that dies is started again (`--restart`), while the front stays up with the keys in its memory.

    python3 -m vmtool.serving.entrypoint --model DIR --served-model-name NAME --api-key-file FILE [-- VLLM_ARGUMENTS]

Exit status: 0 stopped by SIGTERM or SIGINT, or vLLM ended as `--restart` takes for no failure, 1 vLLM died (too often)
or the front could not listen, 2 wrong arguments, 3 the container is not hardened as it was asked for, 4 an encrypted
model is not its owner's or its key does not open it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vmtool.serving.access_list import AccessList, read_access
from vmtool.serving.arguments import Arguments, engine_command, parse
from vmtool.serving.child import inherit_orphans
from vmtool.serving.encrypted.process import leave_no_core
from vmtool.serving.events import event_text
from vmtool.serving.hardening import PROFILES, missing, read_inside
from vmtool.serving.koalavault import translated
from vmtool.serving.listening import listening_socket
from vmtool.serving.supervisor import Supervisor
from vmtool.serving.turns import run

if TYPE_CHECKING:
    from vmtool.serving.encrypted.prepare import EncryptedModel
    from vmtool.serving.front import Front

T = TypeVar("T")
BEGAN = time.monotonic()
NOT_HARDENED, NOT_TRUSTED = 3, 4
PREPARED = Path("/opt/vmtool/modelinfos")


def main(argv: list[str] | None = None) -> int:
    """Serve until stopped; the return value is the exit status."""
    if argv is None and (status := leave_koalavault()):
        return status
    arguments = parse(sys.argv[1:] if argv is None else argv)
    if arguments.hardening and not is_hardened(arguments.hardening):
        return NOT_HARDENED
    directory = Path(tempfile.mkdtemp(prefix="vllm-"))  # mode 0700
    try:
        return run(serve(arguments, directory / "vllm.sock"))
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
    access = take_access(arguments.key_file)
    encrypted = await unless(stop, open_encrypted(arguments, upstream.parent)) if arguments.signer else None
    if stop.is_set() and not encrypted:
        say("stopped before the encrypted model was open")
        return 0
    if arguments.signer and not encrypted:
        return NOT_TRUSTED
    listening = listening_socket(arguments.listen)
    managed = listening_socket(arguments.manage) if arguments.manage else None
    supervisor = supervise(arguments, upstream, encrypted)
    try:
        with contextlib.closing(listening):
            front = make_front(arguments, access, upstream)
            ended = await first_end(stop, supervisor, front, run_front(front, listening, managed, access, arguments))
    finally:
        await supervisor.stop(arguments.grace)
    say("stopped" if stop.is_set() else ended)
    return 0 if stop.is_set() or supervisor.finished else 1


def supervise(arguments: Arguments, upstream: Path, encrypted: EncryptedModel | None) -> Supervisor:
    """Start vLLM, before the front: while it imports torch, this process has the time to import what the front needs.

    Raises:
        OSError: it cannot be started.
    """
    use_prepared_cache()
    inherit_orphans()
    say(f"starting {arguments.server}")
    command = engine_command(arguments, sys.executable, upstream, encrypted.view if encrypted else None)
    supervisor = Supervisor(arguments.server, command, upstream, arguments.restart, say,
                            encrypted.environment if encrypted else None, encrypted.agent if encrypted else None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, supervisor.reap)
    supervisor.reap()  # it may have ended before the handler was there
    return supervisor


async def first_end(stop: asyncio.Event, supervisor: Supervisor, front: Front, serving: Coroutine[Any, Any, None]
                    ) -> str:
    """Serve until something ends, which ends the rest of it; why it did."""
    if front.tls and front.tls.shown.own:
        say(event_text(time.time(), "tls-key", digest=front.tls.key.hex()))
    keeping = asyncio.create_task(supervisor.keep(front.engine))
    tasks = {asyncio.create_task(serving), keeping, asyncio.create_task(stop.wait())}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    ended = keeping.result() if keeping.done() else "the front ended"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return ended


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What comes of it; None as soon as this process shall stop, however long it would take."""
    doing, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if doing.done():
        return doing.result()
    doing.cancel()
    return None


async def appears(file: Path, stop: asyncio.Event) -> bool:
    """Wait for a file, without end: a launch that fails ends this process. False when it was stopped first."""
    if not file.exists():
        say(f"waiting for {file}")
    while not file.exists():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.05)
            return False
    return True


def take_access(file: Path) -> AccessList:
    """The keys and tokens, which are then nowhere but in this process: the engine runs as the same user.

    A process that cannot be dumped keeps its memory from others of its user (prctl(2), PR_SET_DUMPABLE).
    """
    access = read_access(file)
    try:
        file.unlink()
    except OSError as error:
        say(f"{file} stays, since it cannot be removed: {error.strerror}")
    leave_no_core()
    return access


def is_hardened(profile: str) -> bool:
    """Whether this container has every restriction of its profile; what is missing is said."""
    wrong = list(missing(PROFILES[profile], read_inside()))
    if wrong:
        say(event_text(time.time(), "not-hardened", profile=profile, why="; ".join(wrong)[:1000]))
    for each in wrong:
        say(f"not hardened as {profile} asks for: {each}")
    return not wrong


async def open_encrypted(arguments: Arguments, directory: Path) -> EncryptedModel | None:
    """The encrypted model, opened and checked before the engine is started; None when it is refused."""
    from vmtool.serving.encrypted.prepare import prepare  # needs cryptography, which a model in clear does not
    from vmtool.serving.kbs.source import ReleasedKey

    source = ReleasedKey(arguments.key_source, say) if arguments.key_source else None
    return await prepare(arguments, directory, say, source)


def leave_koalavault() -> int:
    """Start again without KoalaVault's words, if there are some; exit status when that is refused."""
    found = translated(sys.argv[1:], os.environ)
    if found and not found.status:
        words = (sys.executable, "-P", "-m", "vmtool.serving.entrypoint", *found.argv)
        os.execve(sys.executable, words, dict(found.environment))
    if found:
        say(found.problem)
    return found.status if found else 0


def make_front(arguments: Arguments, access: AccessList, upstream: Path) -> Front:
    """The front, imported only now: its libraries take a while."""
    from vmtool.serving.front import Engine, Front, Limits, fitting

    limits = fitting(Limits())
    return Front(Engine(upstream, limits.buffered), access, allow_from=arguments.allow_from, limits=limits,
                 metric_names=arguments.metric_names, log=say)


async def run_front(front: Front, listening: socket.socket, managed: socket.socket | None, access: AccessList,
                    arguments: Arguments) -> None:
    """Serve HTTP on the socket, and the host on the other, until cancelled."""
    from vmtool.serving.front import Manage, serve

    manage = Manage(front, access, arguments.manage_from, arguments.metrics_from, say)
    await serve(front, listening, say, manage, managed)


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


def say(text: str) -> None:
    """One line on stdout with the seconds since the start."""
    # In one write, which print() does not do with PYTHONUNBUFFERED: the engine writes to the same log. Where nobody
    # reads the log any more, requests are answered all the same.
    with contextlib.suppress(OSError):
        sys.stdout.write(f"vmtool {time.monotonic() - BEGAN:8.2f} s  {text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
