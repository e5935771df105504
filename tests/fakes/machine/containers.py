"""containerd: images, snapshots, containers and tasks with their shims; and `ctr`, which asks for them."""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tests.fakes.machine.call import Call, done, failed
from tests.fakes.machine.tree import plain
from vmtool.containerd.endpoint import private_endpoint
from vmtool.image.installed import LISTING, RECORD, ImportedImage, blob_path, images_dir
from vmtool.machine import Output
from vmtool.paths import State
from vmtool.records import record_text

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine

SHIMS = {"io.containerd.runc.v2": "containerd-shim-runc-v2", "io.containerd.kata.v2": "containerd-shim-kata-v2"}
# proc(5) of a workload's first process.
HARDENED = """Uid:\t65532\t65532\t65532\t65532
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""
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
    # By their random names: the label containerd.io/gc.expire, and what they alone hold.
    leases: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    snapshots: dict[str, str] = field(default_factory=dict)
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)

    def seen(self) -> dict[str, Any]:
        """What is left when it is empty is nothing."""
        tables = {"images": dict(self.images), "leases": sorted(self.leases), "snapshots": sorted(self.snapshots),
                  "containers": dict(self.containers), "tasks": sorted(self.tasks)}
        return {name: value for name, value in tables.items() if value}


def proc_text(machine: FakeMachine, pid: int, name: str) -> str | None:
    """A file of /proc/PID, of a container's first process."""
    container, shim = next(((one, task.shim) for store in machine.containerds.values()
                            for one, task in store.tasks.items() if task.pid == pid), ("", 0))
    if not container or "qemu" in machine.processes[pid].program:
        return None
    return {"status": f"PPid:\t{shim}\nNSpid:\t{pid}\t1\n{HARDENED}",
            "mountinfo": "4 1 0:5 / / ro,relatime - overlay overlay rw\n",
            "cgroup": f"0::/vmtool-{container}\n"}.get(name)


def cgroup_text(machine: FakeMachine, name: str, file: str) -> str | None:
    """A file of a container's cgroup."""
    options: dict[str, Any] = next((store.containers[name]["options"] for store in machine.containerds.values()
                    if name in store.containers), {})
    return "".join(f"{limit}\n" for limit in options.get("--memory-limit", ())) if file == "memory.max" else None


def netns_of(machine: FakeMachine, pid: int) -> str:
    """The name of the network namespace of a container's process; empty for the host's."""
    spaces = [task.netns.rpartition("/")[2] for store in machine.containerds.values() for task in store.tasks.values()
              if task.pid == pid]
    return spaces[0] if spaces else ""


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
    words = words[2:] if words[0] == "--connect-timeout" else words
    verbs: dict[tuple[str, ...], Callable[[Call, Containerd, tuple[str, ...]], Output]] = {
        ("images", "list"): _list, ("images", "import"): _import, ("images", "tag"): _tag,
        ("content", "get"): _get, ("snapshots", "info"): _info, ("task", "list"): _list_tasks,
        ("leases", "list"): _list_leases, ("leases", "delete"): _delete_leases,
        ("containers", "list"): _list_containers,
        ("images", "remove"): _remove, ("images", "mount"): _mount, ("images", "unmount"): _unmount,
        ("task", "delete"): _delete_task, ("task", "exec"): _exec, ("task", "kill"): _kill,
        ("container", "delete"): _delete_container, ("snapshot", "delete"): _delete_snapshot}
    if words[0] == "run":
        return _run(call, store, socket, words[1:])
    verb = verbs.get(words[:2])
    if verb is None:
        raise AssertionError(f"this machine's ctr knows no {words}")
    return verb(call, store, words[2:])


def chain_of(reference: str) -> str:
    """What a container of the image stands on: its one layer. It depends on the name without the tag."""
    return _digest(reference.rpartition(":")[0])


def blobs_of(reference: str) -> dict[str, str]:
    """An image's configuration and, last, its manifest, by digest."""
    config = json.dumps({"config": {"User": "65532:65532"}, "rootfs": {"diff_ids": [chain_of(reference)]}})
    manifest = json.dumps({"config": {"digest": _digest(config)}})
    return {_digest(config): config, _digest(manifest): manifest}


def digest_of(reference: str) -> str:
    """An image's digest."""
    return list(blobs_of(reference))[-1]


def _digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def install_image(machine: FakeMachine, state: State, reference: str) -> None:
    """The image in the private containerd, which sleeps, as vmtool imported it."""
    machine.containerds[str(state.containerd / "root")] = Containerd({reference: digest_of(reference)})
    for path, text in image_texts(state, reference).items():
        machine.tree.make_dir(posixpath.dirname(path), parents=0o700)
        machine.tree.write(path, text.encode())


def image_texts(state: State, reference: str) -> dict[str, str]:
    """What vmtool wrote down of an image, and the image's documents in the private containerd's store."""
    endpoint = private_endpoint(state)
    record = ImportedImage("x", (reference,), "", str(endpoint.socket), endpoint.private)
    directory = images_dir(state) / record.name
    return {str(directory / RECORD): record_text(record), str(directory / LISTING): row_of(reference),
            **{blob_path(state, digest): text for digest, text in blobs_of(reference).items()}}


def row_of(reference: str, digest: str = "") -> str:
    """A line of `ctr images list`."""
    return (f"{reference} application/vnd.oci.image.manifest.v1+json {digest or digest_of(reference)} 9.0 MiB "
            "linux/amd64 -\n")


def _missing(name: str) -> Output:
    return failed(f'ctr: container "{name}" in namespace "vmtool": not found')


def _list(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    wanted = [word.removeprefix("name==") for word in words if word.startswith("name==")]
    found = [name for name in sorted(store.images) if not wanted or name in wanted]
    if "--quiet" in words:
        return done("".join(f"{name}\n" for name in found))
    rows = [row_of(name, store.images[name]) for name in found]
    return done("".join(["REF TYPE DIGEST SIZE PLATFORMS LABELS\n", *rows]))


def _get(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    blobs = {digest: text for name in store.images for digest, text in blobs_of(name).items()}
    return done(blobs[words[-1]]) if words[-1] in blobs else failed(f"ctr: content {words[-1]}: not found")


def _info(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = plain(words[-1])
    return done(json.dumps({"Kind": "Active", "Name": name, "Parent": store.snapshots[name]})) if (
        name in store.snapshots) else failed(f"ctr: snapshot {name} does not exist: not found")


def _list_tasks(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    if "--quiet" in words:
        return done("".join(f"{name}\n" for name in store.tasks))
    rows = [f"{name} {task.pid} {'RUNNING' if task.pid in call.machine.processes else 'STOPPED'}\n"
            for name, task in store.tasks.items()]
    return done("".join(["TASK PID STATUS\n", *rows]))


def _list_containers(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    assert words == ("--quiet",)
    return done("".join(f"{name}\n" for name in store.containers))


def _import(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    """An archive of the tests has its references in it, a line each."""
    try:
        text = call.machine.tree.read(words[-1]).decode()
    except FileNotFoundError:
        return failed(f"ctr: open {words[-1]}: no such file or directory")
    base = words[words.index("--base-name") + 1] if "--base-name" in words else ""
    with _leased(call, store) as held:
        for line in text.splitlines():
            held.append(line)
            call.machine.changed()
            store.images[f"{base}:{line}" if base and ":" not in line else line] = digest_of(line)
            call.machine.changed()
    return done()


@contextlib.contextmanager
def _leased(call: Call, store: Containerd) -> Iterator[list[str]]:
    """A lease for what `ctr` does, which ends a day later by `ctr`'s own clock; when it is killed, the lease stays."""
    name, expires = f"{call.machine.last_pid}-{len(store.leases)}", f"2026-11-27T11:22:33{_offset(call)}"
    held: list[str] = []
    store.leases[name] = expires, held
    call.machine.changed()
    yield held
    del store.leases[name]
    call.machine.changed()


def _offset(call: Call) -> str:
    """The offset of the zone that the variable TZ names: RFC 8536, one zone and no transitions."""
    if "TZ" not in call.env:
        return "Z"
    data = call.machine.tree.read(call.env["TZ"])
    assert (data[:4], data[20:44]) == (b"TZif", bytes(19) + b"\1\0\0\0\4"), data
    [seconds] = struct.unpack(">l", data[44:48])
    return f"{'-' if seconds < 0 else '+'}{abs(seconds) // 3600:02}:{abs(seconds) // 60 % 60:02}"


def _list_leases(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    wanted = re.fullmatch(r'labels\."containerd\.io/gc\.expire"~="(.*)"', words[-1])
    assert words[:-1] == ("--quiet",) and wanted, words
    return done("".join(f"{name}\n" for name, (expires, _) in store.leases.items() if re.search(wanted[1], expires)))


def _delete_leases(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    assert words[0] == "--sync"
    for name in words[1:]:
        if name not in store.leases:
            return failed(f'ctr: lease "{name}": not found')
        del store.leases[name]
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
    store.snapshots[tree] = chain_of(image)
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
        del store.snapshots[tree]
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
    with _leased(call, store):
        store.snapshots[name] = chain_of(image)
        machine.changed()
        store.containers[name] = {"image": image, "command": tuple(command), "options": options}
        machine.changed()
    netns = next((one.partition(":")[2] for one in options.get("--with-ns", ()) if one.startswith("network:")), "")
    mounts = [mount for mount in options["--mount"] if "type=bind" in mount]
    binds = [mount.partition("src=")[2].partition(",")[0] for mount in mounts]
    for place in (*binds, *([netns] if netns else []), *options.get("--device", ())):
        if not machine.exists(place):
            return failed(f'ctr: failed to create shim task: OCI runtime create failed: stat "{place}": no such file '
                          "or directory: unknown")
    shim = machine.start(f"/usr/bin/{SHIMS[options['--runtime'][0]]}", "-namespace", "vmtool", "-id", name, "-address",
                         socket)
    qemu = machine.guests.start_sandbox(options["--runtime"][0], name, shim,
                                        *options.get("--runtime-config-path", [""]))
    # containerd knows of a task before its process is.
    task = store.tasks[name] = Task(0, shim, plain(netns) if netns else "")
    machine.changed()
    task.pid = qemu or machine.last_pid + 1
    if not qemu:
        machine.start(*command)
    for path in options.get("--log-uri", ()):
        machine.tree.overwrite(posixpath.normpath(path.partition("=")[2]), b"")
    if "--detach" in options:
        machine.tree.overwrite(options["--pid-file"][0], f"{task.pid}".encode(), 0o644)
        return done()
    machine.container_work(command, [bind for bind, mount in zip(binds, mounts, strict=True) if mount.endswith(":rw")])
    _end(machine, store, name)
    del store.containers[name]
    machine.changed()
    del store.snapshots[name]
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
    if machine.cgroups.pop(f"/sys/fs/cgroup/vmtool-{name}", None):
        machine.changed()
    machine.soon(lambda machine: machine.end(task.shim), 0.05)


def _delete_task(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = words[-1]
    if name not in store.tasks:
        return _missing(name) if name not in store.containers else failed(f'ctr: no running task found: task "{name}" '
                                                                         "not found: not found")
    _end(call.machine, store, name)
    return done()


def _exec(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    """What brings the keys through its standard input, and what asks for the first process's status."""
    assert (words[0], words[2]) == ("--fifo-dir", "--exec-id"), words
    fifo, words = f"{words[1]}/77/{words[3]}-stdin", words[2:]
    name = words[2]
    if name not in store.containers:
        return _missing(name)
    call.machine.tree.make_dir(posixpath.dirname(fifo), parents=0o700)
    call.machine.tree.write(fifo, b"")
    answer = _executed(call, store, name, words)
    call.machine.tree.remove(posixpath.dirname(fifo))
    return answer


def _executed(call: Call, store: Containerd, name: str, words: tuple[str, ...]) -> Output:
    if name not in store.tasks or store.tasks[name].pid not in call.machine.processes:
        return failed(f'ctr: task "{name}" not found: not found')
    if words[3] == "grep":
        return done("".join(f"/proc/1/status:{line}\n" for line in HARDENED.splitlines()))
    if words[3] == "nvidia-smi":
        return done("GPU 0: one that was passed on\n" if words[-1] == "-L" else "")
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
        del store.snapshots[name]
        call.machine.changed()
    return done()


def _delete_snapshot(call: Call, store: Containerd, words: tuple[str, ...]) -> Output:
    name = words[-1]
    if name not in store.snapshots:
        return failed(f'ctr: failed to remove "{name}": snapshot {name} does not exist: not found')
    del store.snapshots[name]
    call.machine.changed()
    return done()
