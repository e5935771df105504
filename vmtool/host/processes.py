"""Running programs: argv tuples, a small fixed environment, /dev/null on stdin, a deadline on each.

`start` is the one way to start a child. It begins in the root directory and sees neither the caller's directory nor the
caller's environment, umask or open files: what lies where a person stands is not ours to run (`vmtool.isolation`). It
gets a session of its own, so a deadline or Ctrl-C ends its whole group; what `run` starts dies with vmtool as well, so
a killed vmtool leaves no half-done build running. setpriv(1) sees to that, and no code of ours between fork and exec:
for such code Python copies the whole process, which takes longer than most programs do.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NoReturn

from vmtool import procfs
from vmtool.errors import ProgramFailed, ProgramMissing
from vmtool.isolation import ENVIRONMENT, PATH
from vmtool.machine import REPORT, Output

GRACE = 5.0
# Bytes of a report that are read, see `run`.
LARGEST_REPORT = 1 << 20
# util-linux, which every distribution has.
SETPRIV = "/usr/bin/setpriv"
# A descriptor, an open file, or what subprocess has for none and for a pipe.
Stream = int | IO[bytes]
Child = subprocess.Popen[bytes]


def which(program: str) -> str | None:
    """The absolute path of a program; sbin directories are searched although a user's PATH may lack them."""
    return shutil.which(program, path=PATH)


def run(argv: Sequence[str], *, deadline: float, env: Sequence[tuple[str, str]] = (), stdin: Path | bytes | None = None,
        stdout: Path | None = None, log: IO[str] | None = None, report: int | None = None) -> Output:
    """Run a program to its end.

    Args:
        deadline: seconds; then the process group is terminated, then killed.
        stdin: a file, or the bytes themselves.
        stdout: a file of mode 0600 that receives standard output; `Output.out` is empty then.
        log: receives the command line and both outputs.
        report: a descriptor that the program gets; the variable REPORT of its environment has the number.

    Raises:
        ProgramMissing: there is no such program.
        ProgramFailed: it did not end in time. Its exit status is for the caller to judge.
    """
    given = () if report is None else ((REPORT, str(report)),)
    with contextlib.ExitStack() as files:
        source = subprocess.PIPE if isinstance(stdin, bytes) else files.enter_context(
            _readable(stdin or Path(os.devnull), deadline))
        target = files.enter_context(_private_file(stdout)) if stdout else subprocess.PIPE
        child = start(argv, source, target, subprocess.PIPE, env=(*env, *given),
                      kept=() if report is None else (report,))
        result = finish(child, argv, deadline, stdin if isinstance(stdin, bytes) else None)
    if log:
        log.write(f"$ {shlex.join(argv)}\n{result.out}{result.err}")
        log.flush()
    return result


def _readable(path: Path, deadline: float) -> IO[bytes]:
    """A file to read from; of a named pipe, once somebody has written to it.

    Raises:
        ProgramFailed: nobody did in time.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", buffering=0)
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        if not waiting.poll(deadline * 1000):
            file.close()
            raise ProgramFailed(f"{path}: nobody wrote to this pipe within {deadline:g} s", how="no input")
    os.set_blocking(descriptor, True)
    return file


def finish(child: Child, argv: Sequence[str], deadline: float, stdin: bytes | None = None) -> Output:
    """Wait for the end of a program that was started; whatever comes between ends it.

    Raises:
        ProgramFailed: it did not end in time.
    """
    try:
        out, err = child.communicate(stdin, timeout=deadline)
    except subprocess.TimeoutExpired:
        end_group(child)
        how = f"no end after {deadline:g} s"
        raise ProgramFailed(f"{shlex.join(argv)}: {how}", how=how, details=_state(child)) from None
    except BaseException:
        end_group(child)
        raise
    return Output(child.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))


def run_reporting(argv: Sequence[str], stdin: bytes, *, deadline: float, env: Sequence[tuple[str, str]] = (),
                  log: IO[str] | None = None) -> tuple[Output, bytes]:
    """As `run`, and what the program wrote to the descriptor that the variable REPORT names, at most 1 MiB.

    It is a file without a name and not a pipe: nobody has to read it while the program runs.
    """
    report = os.memfd_create("vmtool-report")
    try:
        result = run(argv, deadline=deadline, env=env, stdin=stdin, log=log, report=report)
        return result, os.pread(report, LARGEST_REPORT, 0)
    finally:
        os.close(report)


def start(argv: Sequence[str], stdin: Stream, stdout: Stream, stderr: Stream, *,
          before: Callable[[], None] | None = None, env: Sequence[tuple[str, str]] = (), kept: Sequence[int] = ()
          ) -> Child:
    """Start a program.

    Args:
        before: of a program that outlives vmtool: called in the child, before the program is there.
        env: additions to the fixed environment.
        kept: descriptors that it gets besides its three streams.

    Raises:
        ProgramMissing: there is no such program.
    """
    bound = () if before else (_executable(SETPRIV), "--pdeathsig", "KILL")
    words = (*bound, _executable(argv[0]), *argv[1:])
    return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr, cwd="/", env=ENVIRONMENT | dict(env),
                            umask=0o022, start_new_session=True, pass_fds=kept, preexec_fn=before)


def become(argv: Sequence[str]) -> NoReturn:
    """Run a program in the place of this one: with its terminal, and with its exit status as the answer."""
    executable = _executable(argv[0])
    os.chdir("/")
    os.execve(executable, list(argv), ENVIRONMENT)


def _executable(program: str) -> str:
    """The absolute path of a program that is one word or an absolute path: no other path means the same everywhere."""
    found = program if os.path.isabs(program) else which(program) if "/" not in program else None
    if not found or not os.path.exists(found):
        raise ProgramMissing(f"{program}: no such program", hint=f"apt-get install {_package(program)}")
    return found


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Terminate a child's process group, then kill what is left of it, the child itself or what it started; a child in
    D state is abandoned after the grace time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # PermissionError: all that is left of the group is another user's, as what newuidmap(1) began.
        with contextlib.suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            os.killpg(child.pid, number)
            child.wait(GRACE)


def start_time(pid: int) -> str | None:
    """The kernel's start time of a process in clock ticks, or None when it is gone, or a zombie without a thread.

    With the pid it names a process for good: pids are reused, the pair is not (proc(5), field 22 of stat).
    """
    try:
        return procfs.start_of(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except OSError:
        return None


def started_at(ticks: str) -> float:
    """Seconds since the epoch of a start time in clock ticks since boot."""
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return int(boot.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")


def _package(program: str) -> str:
    packages = {"ctr": "containerd", "ip": "iproute2", "jq": "jq", "runc": "runc", "mmdebstrap": "mmdebstrap",
                "veritysetup": "cryptsetup-bin", "setpriv": "util-linux"}
    return packages.get(Path(program).name, Path(program).name)


def _private_file(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _state(child: subprocess.Popen[bytes]) -> list[str]:
    """What a child that cannot be ended is doing: its state and kernel stack."""
    if child.poll() is not None:
        return []
    try:
        status = Path(f"/proc/{child.pid}/status").read_text()
        stack = Path(f"/proc/{child.pid}/stack").read_text()
    except OSError:
        return [f"process {child.pid} could not be ended"]
    return [line for line in status.splitlines() if line.startswith("State:")] + stack.splitlines()
