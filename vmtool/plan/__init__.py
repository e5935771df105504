"""What to do, before anything is done: a small closed vocabulary of actions, steps and plans.

Every action prints as the shell line it amounts to, so a plan is also a runbook, and every action can be
written to the journal and read back. Nothing here touches the machine: `vmtool.engine.apply` does.

A step carries its own way back. `undo` is written to the journal before the step's first action, so every
undo action must be harmless when the thing it removes is not there (yet, or any more).
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Run:
    """Run a program to its end.

    Args:
        argv: the program and its arguments; never a shell string.
        env: additions to the small fixed environment that every child gets.
        stdin, stdout: files to read from and to write to (mode 0600), instead of /dev/null and the log.
        deadline: seconds until the program's process group is terminated.
        gone: pieces of the program's output that mean "there is nothing to undo": then a failure is none.
        hint: what helps a person when it fails.
    """

    argv: tuple[str, ...]
    env: Pairs = ()
    stdin: Path | None = None
    stdout: Path | None = None
    deadline: float = 60.0
    gone: tuple[str, ...] = ()
    hint: str = ""

    def shell(self) -> str:
        words = [f"{name}={shlex.quote(value)}" for name, value in self.env] + [shlex.join(self.argv)]
        words += [f"< {shlex.quote(str(self.stdin))}"] if self.stdin else []
        words += [f"> {shlex.quote(str(self.stdout))}"] if self.stdout else []
        return " ".join(words)


@dataclass(frozen=True)
class Expect:
    """Run a program and require that one line of its output equals `line`; `hint` helps when it does not."""

    argv: tuple[str, ...]
    line: str
    hint: str = ""
    deadline: float = 30.0

    def shell(self) -> str:
        return f"{shlex.join(self.argv)} | grep -Fx -- {shlex.quote(self.line)}"


@dataclass(frozen=True)
class StartDaemon:
    """Start a program that outlives vmtool, unless the one in `pidfile` still lives; wait for its socket.

    The pid file holds "PID STARTTIME", so that a reused pid is never taken for the daemon.
    """

    argv: tuple[str, ...]
    pidfile: Path
    log: Path
    socket: Path
    deadline: float = 30.0

    def shell(self) -> str:
        return f"setsid {shlex.join(self.argv)} >> {self.log} 2>&1 & echo $! > {self.pidfile}"


@dataclass(frozen=True)
class StopDaemon:
    """Terminate the daemon of `pidfile` politely, then by force; not while the directory `users` has entries.

    The directory of the pid file is the daemon's own on a volatile file system: it goes along.
    """

    pidfile: Path
    users: Path
    deadline: float = 10.0

    def shell(self) -> str:
        return (f'[ -n "$(ls -A {self.users})" ] || {{ kill $(cat {self.pidfile}); '
                f"rm -rf --one-file-system {self.pidfile.parent}; }}")


@dataclass(frozen=True)
class NotePid:
    """Add the process's start time to a pid file that another program wrote, so that it is known for good."""

    pidfile: Path

    def shell(self) -> str:
        file = shlex.quote(str(self.pidfile))
        return (f'printf "%s %s\\n" $(cat {file}) $(cut -d" " -f22 /proc/$(cat {file})/stat) > {file}.new '
                f"&& mv {file}.new {file}")


@dataclass(frozen=True)
class MakeDir:
    """Create a directory and its parents; `mode` is for the last one."""

    path: Path
    mode: int = 0o700
    uid: int = 0

    def shell(self) -> str:
        return f"install -d -m {self.mode:04o} -o {self.uid} {shlex.quote(str(self.path))}"


@dataclass(frozen=True)
class WriteFile:
    """Write a file atomically: temporary file, fsync, rename."""

    path: Path
    text: str
    mode: int = 0o600

    def shell(self) -> str:
        return f"install -m {self.mode:04o} /dev/stdin {shlex.quote(str(self.path))} <<'EOF'\n{self.text.rstrip()}\nEOF"


@dataclass(frozen=True)
class CopySecret:
    """Copy a secret file to a place of mode 0400 owned by `uid`; with no `source`, make a random key."""

    path: Path
    uid: int
    source: Path | None = None

    def shell(self) -> str:
        made = f"install -m 0400 -o {self.uid} {{source}} {shlex.quote(str(self.path))}"
        if self.source:
            return made.format(source=shlex.quote(str(self.source)))
        return "openssl rand -hex 32 | " + made.format(source="/dev/stdin")


@dataclass(frozen=True)
class Remove:
    """Remove a file or a directory tree, never crossing into another mounted file system."""

    path: Path

    def shell(self) -> str:
        return f"rm -rf --one-file-system {shlex.quote(str(self.path))}"


@dataclass(frozen=True)
class CallPlugin:
    """Call one CNI plugin by the CNI protocol (github.com/containernetworking/cni, SPEC.md).

    Args:
        command: ADD, CHECK or DEL.
        plugin: path of the plugin's executable.
        config: file with this plugin's own configuration, name and cniVersion included.
        previous: file with the result of the plugin before it, merged in as `prevResult`; may be absent on DEL.
        result: file that receives the result of an ADD.
        again_without: name of a bridge; when a first ADD fails because of its hardware address, the bridge is
            deleted and the ADD is tried once more (a known fault after an earlier failed ADD).
    """

    command: str
    plugin: Path
    config: Path
    container_id: str
    netns: Path
    ifname: str
    previous: Path | None = None
    result: Path | None = None
    again_without: str = ""
    deadline: float = 30.0

    def shell(self) -> str:
        env = (f"CNI_COMMAND={self.command} CNI_CONTAINERID={self.container_id} CNI_NETNS={self.netns} "
               f"CNI_IFNAME={self.ifname} CNI_PATH={self.plugin.parent}")
        if self.previous:
            source = f"jq -s '.[0] + {{prevResult: .[1]}}' {self.config} {self.previous} | "
            line = f"{source}{env} {self.plugin}"
        else:
            line = f"{env} {self.plugin} < {self.config}"
        return f"{line} > {self.result}" if self.result else line


@dataclass(frozen=True)
class RemoveBridge:
    """Delete a network bridge, when it exists and has no port left."""

    name: str

    def shell(self) -> str:
        return f'[ -n "$(ls /sys/class/net/{self.name}/brif)" ] || ip link delete dev {self.name} type bridge'


@dataclass(frozen=True)
class RemoveChain:
    """Remove one container's iptables chain, with the jumps to it; nothing when it is not there."""

    table: str
    chain: str

    def shell(self) -> str:
        iptables = f"iptables -w -t {self.table}"
        return (f"{iptables} -S | sed -n 's/^-A \\(.* -j {self.chain}\\)$/-D \\1/p' | "
                f"while read -r rule; do eval \"{iptables} $rule\"; done; "
                f"{iptables} -F {self.chain}; {iptables} -X {self.chain}")


@dataclass(frozen=True)
class SweepChains:
    """Remove the chains that CNI's plugins make once per host and never remove, when they serve nobody any more.

    `marker` lists "TABLE CHAIN" lines, the chains that were absent before vmtool's first network; it goes as well.
    Nothing is done while another directory than `own` below `users` holds a network. A chain that existed before, or
    that holds a rule of anybody's, stays.
    """

    marker: Path
    users: Path
    own: str

    def shell(self) -> str:
        return (f"[ -n \"$(ls {self.users}/*/network.json | grep -v /{self.own}/)\" ] || "
                f"while read -r table chain; do iptables -w -t $table -S | "
                f"sed -n \"s/^-A \\(.* -j $chain\\)$/-D \\1/p\" | "
                f"while read -r rule; do eval \"iptables -w -t $table $rule\"; done; "
                f"iptables -w -t $table -F $chain; iptables -w -t $table -X $chain; done < {self.marker}; "
                f"rm -f {self.marker}")


@dataclass(frozen=True)
class WriteSysfs:
    """Write texts, each with a newline, to files of PCI devices: the devices side by side, a device's files in order.

    Such a write can hang in the kernel for good, so each device has a child process that can be abandoned, and a
    device that hung is marked, to be left alone until the next boot.

    Args:
        writes: (file, text); the file's path or the text holds the device's address.
        when: empty, or of each write (directory of a device, condition at that moment): the name of the driver that
            it is bound to, "" for none, "*" for any as long as the device is there. A write whose condition does not
            hold is left out.
        marks: the directory with a file for each device that hung.
        deadline: seconds for all of it.
    """

    writes: Pairs
    when: Pairs = ()
    marks: Path = Path("/var/lib/vmtool/gpu/hung")
    deadline: float = 20.0

    def shell(self) -> str:
        lines = [f"echo {shlex.quote(text)} > {shlex.quote(path)}" if text else f"echo > {shlex.quote(path)}"
                 for path, text in self.writes]
        if self.when:
            lines = [f"{_holds(*condition)} && {line}" for line, condition in zip(lines, self.when, strict=False)]
        return "\n".join(lines) or ":"


@dataclass(frozen=True)
class ExpectDriver:
    """Read back which driver each device is bound to; a probe that the kernel puts off is waited for.

    Args:
        devices: (directory of a device, name of its driver or "" for none).
        marks: as in `WriteSysfs`; a device that hung in this boot is not asked.
        gone: a device that is not there any more is no failure.
        deadline: seconds.
    """

    devices: Pairs
    marks: Path = Path("/var/lib/vmtool/gpu/hung")
    gone: bool = False
    deadline: float = 5.0

    def shell(self) -> str:
        absent = "[ ! -e {} ] || "
        return "\n".join((absent.format(shlex.quote(directory)) if self.gone else "") + _holds(directory, driver)
                         for directory, driver in self.devices) or ":"


@dataclass(frozen=True)
class AwaitFree:
    """Wait until no machine has devices open that VFIO holds: an unbind would wait for it in the kernel, for good.

    While one has, what follows in the same way back is left undone, and is there for another try.

    Args:
        devices: their directories; one that is gone or on another driver is free.
        deadline: seconds; a kernel that unpins a large guest's memory takes many.
    """

    devices: tuple[str, ...]
    deadline: float = 60.0

    def shell(self) -> str:
        nodes = "/dev/vfio/$(basename $(readlink {0}/iommu_group)) /dev/vfio/devices/$(ls {0}/vfio-dev)"
        return "\n".join(f"timeout {self.deadline:.0f} sh -c 'while fuser -s {nodes.format(directory)}; "
                         "do sleep 0.2; done'" for directory in self.devices)


def _holds(directory: str, driver: str) -> str:
    """A test of the shell's that a device is there, has no driver, or is bound to this one."""
    if driver == "*":
        return f"[ -e {shlex.quote(directory)} ]"
    link = shlex.quote(f"{directory}/driver")
    return f'[ "$(basename "$(readlink {link})")" = {shlex.quote(driver)} ]'


@dataclass(frozen=True)
class Server:
    """Where an OpenAI-compatible server listens.

    Args:
        host: an address, or empty when only the CNI result in the file `result` tells it.
    """

    host: str
    port: int
    result: Path

    def shell(self) -> str:
        host = self.host or f"$(jq -r .ips[0].address {self.result} | cut -d/ -f1)"
        return f"http://{host}:{self.port}"


@dataclass(frozen=True)
class AwaitHealth:
    """Wait until the server answers 200 on /health; fail at once when the process in `pidfile` ends.

    `log` is what the workload writes; its last lines explain a failure.
    """

    server: Server
    pidfile: Path
    log: Path
    deadline: float

    def shell(self) -> str:
        url = f"{self.server.shell()}/health"
        return f"timeout {self.deadline:.0f} sh -c 'until curl -sf {url}; do sleep 0.2; done'"


@dataclass(frozen=True)
class AskCanary:
    """Ask a question with a known answer at temperature 0 and compare; the exchange goes to the file `evidence`.

    Args:
        key: file with the API key.
        match: "exact" (but for blanks around it) or "contains".
    """

    server: Server
    key: Path
    model: str
    prompt: str
    expect: str
    match: str
    evidence: Path
    deadline: float

    def shell(self) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": self.prompt}]}
        option = "-Fx" if self.match == "exact" else "-F"
        return (f"sed 's/^/Authorization: Bearer /' {self.key} | curl -sf -H @- -H 'Content-Type: application/json' "
                f"-d {shlex.quote(json.dumps(body))} "
                f"{self.server.shell()}/v1/chat/completions | jq -r .choices[0].message.content "
                f"| grep {option} -- {shlex.quote(self.expect)}")


@dataclass(frozen=True)
class ExpectTee:
    """Look at the arguments of the QEMU that runs, and require the TEE that was asked for.

    Args:
        name: that QEMU was started with, such as sandbox-chat.
        tee: virtcca, snp or tdx.
        devices: PCI addresses that must have been passed on, and no other.
        program: the emulator that must run; empty for any.
        evidence: file that receives the arguments.
        deadline: seconds until such a QEMU must be there.
        handler: who started it, kata or libvirt.
    """

    name: str
    tee: str
    devices: tuple[str, ...]
    program: str
    kernel: str
    evidence: Path
    deadline: float = 10.0
    handler: str = "kata"

    def shell(self) -> str:
        kind = {"virtcca": "tmm-guest", "snp": "sev-snp-guest"}.get(self.tee, "tdx-guest")
        return (f"tr '\\0' '\\n' < /proc/$(pgrep -f -- '-name {self.name}')/cmdline | "
                f"tee {self.evidence} | grep -e {kind}")


@dataclass(frozen=True)
class EndGuest:
    """End a QEMU that outlived its shim, and wait until it is gone: before that no device of it may be given back.

    Args:
        name: that QEMU was started with; program: the file that it runs. Both must fit.
        deadline: seconds after SIGKILL; QEMU unpins the guest's memory first.
    """

    name: str
    program: str
    deadline: float = 60.0

    def shell(self) -> str:
        return f"pkill -KILL -f -- {shlex.quote(f'^{self.program} .*-name {self.name}')}"


@dataclass(frozen=True)
class EndTask:
    """Delete a task of containerd's, and wait until its shim is gone: containerd may be making it at this moment, for
    a `ctr` that was killed meanwhile. A shim that containerd knows nothing of is killed.

    Args:
        socket, namespace: of containerd.
        deadline: seconds; after a third of it the shim is killed.
    """

    socket: Path
    namespace: str
    name: str
    deadline: float = 60.0

    @property
    def argv(self) -> tuple[str, ...]:
        """How `ctr` is asked for it; it fails when there is no task."""
        return ("ctr", "--address", str(self.socket), "--namespace", self.namespace, "task", "delete", "--force",
                self.name)

    def shell(self) -> str:
        shim = shlex.quote(f"^[^ ]*containerd-shim.* -id {self.name}( |$)")
        return f"while {shlex.join(self.argv)}; pgrep -f -- {shim}; do sleep 0.2; done"


@dataclass(frozen=True)
class AskGuest:
    """Ask vmtool's agent in a guest of libvirt's, on the Unix socket of a virtio-serial port.

    Args:
        verb: "report", "network" (with the address and gateway of the CNI result in `source`), "serve" (with the API
            keys in `source`) or "stop".
        evidence: file that receives the answer.
        pidfile: of QEMU; when it ends the answer is not waited for.
        console: what the guest's kernel and systemd write; its last lines explain a failure.
        fleeting: a guest that ends before it has answered, or does not answer, is no failure.
        deadline: seconds; a guest that boots answers once it has booted.
    """

    channel: Path
    verb: str
    pidfile: Path
    console: Path
    source: Path | None = None
    evidence: Path | None = None
    fleeting: bool = False
    deadline: float = 30.0

    def shell(self) -> str:
        words = self.verb
        if self.verb == "network":
            words += f" $(jq -r '.ips[0] | \"\\(.address) \\(.gateway)\"' {shlex.quote(str(self.source))})"
        keys = f"cat {shlex.quote(str(self.source))}; echo .; " if self.verb == "serve" else ""
        told = f" > {shlex.quote(str(self.evidence))}" if self.evidence else ""
        return (f'{{ echo "{words}"; {keys}}} | socat -t{self.deadline:.0f} - '
                f"UNIX-CONNECT:{shlex.quote(str(self.channel))}{told}")


Action = (Run | Expect | StartDaemon | StopDaemon | NotePid | MakeDir | WriteFile | CopySecret | Remove | CallPlugin
          | RemoveBridge | RemoveChain | SweepChains | WriteSysfs | ExpectDriver | AwaitFree | AwaitHealth | AskCanary
          | ExpectTee | EndGuest | EndTask | AskGuest)
# Modules that journals of vmtool 0.1 run when they are undone, and where they are today.
MOVED = {"vmtool.host.domains": "vmtool.libvirt.workers.domains",
         "vmtool.host.wayback": "vmtool.rootfs.grow.workers.roll_back"}
KINDS: dict[str, type[Action]] = {kind.__name__: kind for kind in typing.get_args(Action)}


@dataclass(frozen=True)
class Step:
    """One line of the runbook's table of contents.

    Args:
        title: what it achieves, for a person.
        actions: in order.
        undo: in order; each harmless when there is nothing to undo.
        skip: why there is nothing to do; empty when there is.
        waits: the step only waits and looks, so the host lock need not be held for it.
        clears: when it is done, nothing of what was begun before is left to undo, itself included.
    """

    title: str
    actions: tuple[Action, ...] = ()
    undo: tuple[Action, ...] = ()
    skip: str = ""
    waits: bool = False
    clears: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps for one subject, such as `instance quickstart`; the journal lies in `directory`."""

    subject: str
    directory: Path
    steps: tuple[Step, ...]

    @property
    def changes(self) -> bool:
        """Whether applying it would do anything."""
        return any(not step.skip for step in self.steps)


def plan_lines(plan: Plan) -> Iterator[str]:
    """The plan as an exact runbook: a comment line per step, a shell line per action."""
    for number, step in enumerate(plan.steps, 1):
        yield f"# {number}. {step.title}" + (f" (nothing to do: {step.skip})" if step.skip else "")
        if not step.skip:
            yield from shell_lines(step.actions)


def shell_lines(actions: Iterable[Action]) -> Iterator[str]:
    """Each action as the shell line that it amounts to."""
    return (action.shell() for action in actions)


def to_json(value: object) -> typing.Any:
    """A plan, step or action as plain JSON values; an action carries its `kind`."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields} if type(value).__name__ in KINDS else fields
    return value


def action_from_json(record: dict[str, typing.Any]) -> Action:
    """The inverse of `to_json` for an action.

    Raises:
        ValueError: the record is of no known kind or lacks a field; a newer vmtool may have written it.
    """
    try:
        kind = KINDS[record["kind"]]
        hints = typing.get_type_hints(kind)
        values = {name: _revive(hints[name], value) for name, value in record.items() if name != "kind"}
        action = kind(**values)
        return dataclasses.replace(action, argv=_moved(action.argv)) if isinstance(action, Run) else action
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an action of this vmtool: {record!r}") from error


def _moved(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The program's words, a module of vmtool under the name that it has today."""
    return tuple(MOVED.get(word, word) for word in argv)


def _revive(hint: object, value: typing.Any) -> typing.Any:
    if isinstance(hint, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if hint is Path and value is not None:
        return Path(value)
    if hint is Server:
        return Server(value["host"], value["port"], Path(value["result"]))
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return value
