"""containerd: images, snapshots, containers and tasks with their shims; and `ctr`, which asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tests.fakes.machine.call import Call, done, failed
from tests.fakes.machine.tree import plain
from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine

SHIMS = {"io.containerd.runc.v2": "containerd-shim-runc-v2", "io.containerd.kata.v2": "containerd-shim-kata-v2"}
FLAGS = ("--detach", "--rm", "--read-only", "--seccomp")


@dataclass
class Task:
    """A container's processes.

    Args:
        key: what was handed over through an exec; empty before that. Then it serves.
        netns: path of its network namespace.
    """

    pid: int
    shim: int
    netns: str = ""
    key: str = ""


@dataclass
class Containerd:
    """What lies below one containerd's root."""

    images: dict[str, str] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)

    def seen(self) -> dict[str, Any]:
        """What is left when it is empty is nothing."""
        tables = {"images": dict(self.images), "snapshots": sorted(self.snapshots),
                  "containers": dict(self.containers), "tasks": sorted(self.tasks)}
        return {name: value for name, value in tables.items() if value}


def start_containerd(machine: FakeMachine, pid: int, argv: tuple[str, ...]) -> None:
    """The daemon: it reads its configuration, makes its directories, and accepts."""
    settings = dict(line.split(" = ") for line in machine.tree.read(argv[argv.index("--config") + 1]).decode(
    ).splitlines() if " = " in line)
    root, state, socket = (settings[name].strip('"') for name in ("root", "state", "address"))
    # `address` is there twice, last for ttrpc.
    socket = plain(socket.removesuffix(".ttrpc"))
    machine.tree.make_dir(root, 0o711, parents=0o700)
    machine.tree.make_dir(state, 0o711, parents=0o700)
    for path in (socket, f"{socket}.ttrpc"):
        machine.tree.write(path, b"", 0o660)
    machine.containerds.setdefault(root, Containerd())
    process = machine.processes[pid]
    process.socket = socket

    def ended(machine: FakeMachine) -> None:
        for path in (socket, f"{socket}.ttrpc"):
            if machine.tree.find(path):
                machine.tree.unlink(path)

    process.ended = ended
    machine.roots[socket] = root


def ctr(call: Call) -> Output:
    """`ctr --address SOCKET --namespace NAMESPACE ...`."""
    socket, words = plain(call.value("--address")), call.words[4:]
    if not any(process.socket == socket for process in call.machine.processes.values()):
        return failed(f'ctr: failed to dial "{socket}": context deadline exceeded: connection error: desc = '
                      f'"transport: error while dialing: dial unix://{socket}: timeout"')
    store = call.machine.containerds[call.machine.roots[socket]]
    verbs: dict[tuple[str, ...], Callable[[Call, Containerd, tuple[str, ...]], Output]] = {
        ("images", "list"): _list, ("images", "import"): _import, ("images", "tag"): _tag,
        ("images", "remove"): _remove, ("images", "mount"): _mount, ("images", "unmount"): _unmount,
        ("task", "delete"): _delete_task, ("task", "exec"): _exec, ("task", "kill"): _kill,
        ("container", "delete"): _delete_container, ("snapshot", "delete"): _delete_snapshot}
    if words[0] == "run":
        return _run(call, store, socket, words[1:])
    verb = verbs.get(words[:2])
    if verb is None:
        raise AssertionError(f"this machine's ctr knows no {words}")
    return verb(call, store, words[2:])


def digest_of(reference: str) -> str:
    """An image's digest."""
    return f"sha256:{sha256(reference.rpartition(':')[0].encode()).hexdigest()}"


def _missing(name: str) -> Output:
    return failed(f'ctr: container "{name}" in namespace "vmtool": not found')


def _list(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    wanted = [word.removeprefix("name==") for word in words if word.startswith("name==")]
    found = [name for name in sorted(store.images) if not wanted or name in wanted]
    if "--quiet" in words:
        return done("".join(f"{name}\n" for name in found))
    rows = [f"{name} application/vnd.oci.image.manifest.v1+json {store.images[name]} 9.0 MiB linux/amd64 -\n"
            for name in found]
    return done("".join(["REF TYPE DIGEST SIZE PLATFORMS LABELS\n", *rows]))


def _import(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    """An archive of the tests has its references in it, a line each."""
    try:
        text = call.machine.tree.read(words[-1]).decode()
    except FileNotFoundError:
        return failed(f"ctr: open {words[-1]}: no such file or directory")
    base = words[words.index("--base-name") + 1] if "--base-name" in words else ""
    for line in text.splitlines():
        store.images[f"{base}:{line}" if base and ":" not in line else line] = digest_of(line)
        call.machine.changed()
    return done()


def _tag(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    source, target = words[-2:]
    if source not in store.images:
        return failed(f'ctr: image "{source}": not found')
    if target in store.images and "--force" not in words:
        return failed(f'ctr: image "{target}": already exists')
    store.images[target] = store.images[source]
    call.machine.changed()
    return done(f"{target}\n")


def _remove(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    """One that is not there is a warning."""
    if store.images.pop(words[-1], None) is None:
        return Output(0, "", f'level=warning msg="{words[-1]}: image not found"\n')
    call.machine.changed()
    return done(f"{words[-1]}\n")


def _mount(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    image, tree = words[-2], plain(words[-1])
    if image not in store.images:
        return failed(f'ctr: image "{image}": not found')
    if tree in store.snapshots:
        return failed(f'ctr: snapshot "{tree}": already exists')
    store.snapshots.append(tree)
    call.machine.changed()
    call.machine.tree.mounts.append(tree)
    call.machine.changed()
    return done(f"{tree}\n")


def _unmount(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    tree = plain(words[-1])
    if tree in call.machine.tree.mounts:
        call.machine.tree.mounts.remove(tree)
        call.machine.changed()
    if "--rm" in words and tree in store.snapshots:
        store.snapshots.remove(tree)
        call.machine.changed()
    return done(f"{tree}\n")


def _run(call: Call, store: Containerd, socket: str, words: tuple[str, ...]) -> Output:
    """Snapshot, container, shim, task: as containerd 1.6 makes them, and leaves them when it fails half-way."""
    machine, options, rest = call.machine, *_options(words)
    image, name, *command = rest
    if image not in store.images:
        return failed(f'ctr: image "{image}": not found')
    if name in store.snapshots or name in store.containers:
        return failed(f'ctr: snapshot "{name}": already exists')
    store.snapshots.append(name)
    machine.changed()
    store.containers[name] = {"image": image, "command": tuple(command), "options": options}
    machine.changed()
    netns = next((one.removeprefix("network:") for one in options.get("--with-ns", ())), "")
    binds = [mount.partition("src=")[2].partition(",")[0] for mount in options["--mount"] if "type=bind" in mount]
    for place in (*binds, *([netns] if netns else []), *options.get("--device", ())):
        if not machine.exists(place):
            return failed(f'ctr: failed to create shim task: OCI runtime create failed: stat "{place}": no such file '
                          "or directory: unknown")
    shim = machine.start(f"/usr/bin/{SHIMS[options['--runtime'][0]]}", "-namespace", "vmtool", "-id", name, "-address",
                         socket)
    machine.guests.start_sandbox(options["--runtime"][0], name, shim)
    # containerd knows of a task before its process is.
    task = store.tasks[name] = Task(0, shim, plain(netns) if netns else "")
    machine.changed()
    task.pid = machine.last_pid + 1
    machine.start(*command)
    for path in options.get("--log-uri", ()):
        machine.tree.overwrite(path.removeprefix("file://"), b"")
    if "--detach" in options:
        machine.tree.overwrite(options["--pid-file"][0], f"{task.pid}".encode(), 0o644)
        return done()
    machine.container_work(command, binds)
    _end(machine, store, name)
    del store.containers[name]
    machine.changed()
    store.snapshots.remove(name)
    machine.changed()
    return done()


def _options(words: tuple[str, ...]) -> tuple[dict[str, list[str]], list[str]]:
    found: dict[str, list[str]] = {"--mount": []}
    left = list(words)
    while left[0].startswith("-"):
        option = left.pop(0)
        found.setdefault(option, []).append("" if option in FLAGS else left.pop(0))
    return found, left


def _end(machine: FakeMachine, store: Containerd, name: str) -> None:
    """The task is deleted; its shim goes a moment later."""
    task = store.tasks.pop(name)
    machine.end(task.pid)
    machine.soon(lambda machine: machine.end(task.shim), 0.05)


def _delete_task(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = words[-1]
    if name not in store.tasks:
        return _missing(name) if name not in store.containers else failed(f'ctr: no running task found: task "{name}" '
                                                                         "not found: not found")
    _end(call.machine, store, name)
    return done()


def _exec(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    """The one exec there is: it brings the keys through its standard input."""
    name = words[2]
    if name not in store.containers:
        return _missing(name)
    if name not in store.tasks or store.tasks[name].pid not in call.machine.processes:
        return failed(f'ctr: task "{name}" not found: not found')
    assert words[3:6] == ("python3", "-P", "-m"), words
    store.tasks[name].key = call.stdin.decode().split()[0]
    call.machine.changed()
    return done()


def _kill(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = words[-1]
    if name not in store.tasks:
        return _missing(name)
    call.machine.end(store.tasks[name].pid)
    return done()


def _delete_container(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = words[-1]
    if name not in store.containers:
        return _missing(name)
    if name in store.tasks:
        return failed(f"ctr: cannot delete a non stopped container: {{running 0 {name}}}")
    del store.containers[name]
    call.machine.changed()
    if name in store.snapshots:
        store.snapshots.remove(name)
        call.machine.changed()
    return done()


def _delete_snapshot(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = words[-1]
    if name not in store.snapshots:
        return failed(f'ctr: failed to remove "{name}": snapshot {name} does not exist: not found')
    store.snapshots.remove(name)
    call.machine.changed()
    return done()
