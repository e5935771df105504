"""The container: one argv builder for runc and Kata, so that what is tested on a plain machine is what runs."""

from __future__ import annotations

from pathlib import Path

from vmtool.containerd.actions import DeleteLeases, DeleteTask, LimitPids, RemoveCgroup, WriteZone
from vmtool.containerd.endpoint import NAMESPACE, Endpoint
from vmtool.containerd.leases import LeaseMark
from vmtool.frozen import dataclass
from vmtool.plan import Action, Remove, Run
from vmtool.serving.hardening import PROFILES, SHM, Profile

RUNTIMES = {"runc": "io.containerd.runc.v2", "kata": "io.containerd.kata.v2"}
UID = 65532
# Processes and threads of a container; vLLM has a few thousand on a machine with many cores and GPUs.
PIDS = 16384
# `ctr run --cap-drop CAP_ALL` drops nothing and says nothing: all of its defaults are named (containerd 1.6 and 1.7,
# oci/spec.go defaultUnixCaps).
CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
# Where the entrypoint waits for its keys: a file that the host shared would be in a guest before anybody looked at it.
KEY = "/run/vmtool/api-key"
# The model's key comes beside them, before them.
MODEL_KEY = "/run/vmtool/model-key"
SECRETS = {"/run/vmtool": f"rw,noexec,nosuid,nodev,mode=0700,uid={UID},gid={UID}"}


@dataclass(frozen=True)
class Container:
    """What `ctr run` is asked for.

    Args:
        handler: runc or kata.
        memory: bytes; cpus: a number of CPUs. Zero means no limit.
        binds: (host path, path inside), read-only.
        netns: path of a network namespace; None for one with nothing but a loopback.
        devices: device files to pass on, such as /dev/vfio/81.
        config: Kata configuration file that the shim shall read; annotations: for it.
        keyed: whether `hand_over` brings it keys.
        profile: what it may not do.
    """

    name: str
    image: str
    command: tuple[str, ...]
    handler: str = "runc"
    memory: int = 0
    cpus: float = 0.0
    binds: tuple[tuple[Path, str], ...] = ()
    writable: tuple[tuple[Path, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    netns: Path | None = None
    devices: tuple[Path, ...] = ()
    config: Path | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    keyed: bool = False
    profile: Profile = PROFILES["strict"]


def start(endpoint: Endpoint, container: Container, mark: LeaseMark, *options: str,
          deadline: float) -> tuple[Action, ...]:
    """Start a container; see `run_argv`. With runc its processes are this host's, and so have a limit before the first
    of them is there; a guest's are its own kernel's."""
    limit = (LimitPids(cgroup_of(container.name), PIDS),) if container.handler == "runc" else ()
    return (*limit, WriteZone(mark.zone, mark.west), Run(run_argv(endpoint, container, *options), deadline=deadline,
                                                         env=mark.environment))


def run_argv(endpoint: Endpoint, container: Container, *options: str) -> tuple[str, ...]:
    """The whole `ctr run`; `options` say how it ends: `--rm`, or `--detach` with a pid file and a log."""
    words = ["run", *options, "--runtime", RUNTIMES[container.handler], "--read-only", "--seccomp"]
    for capability in CAPABILITIES:
        words += ["--cap-drop", capability]
    words += ["--cgroup", f"/{cgroup_of(container.name)}"]
    if container.memory:
        words += ["--memory-limit", str(container.memory)]
    if container.cpus:
        words += ["--cpus", f"{container.cpus:g}"]
    words += _mounts(container)
    for name, value in container.env:
        words += ["--env", f"{name}={value}"]
    if container.netns:
        words += ["--with-ns", f"network:{container.netns}"]
    for device in container.devices:
        words += ["--device", str(device)]
    for name, value in container.annotations:
        words += ["--annotation", f"{name}={value}"]
    if container.config:
        words += ["--runtime-config-path", str(container.config)]
    return endpoint.ctr(*words, container.image, container.name, *container.command)


def _mounts(container: Container) -> list[str]:
    """What is mounted, and whose shared memory it is."""
    words: list[str] = []
    memory = {path: ",".join(("rw", *how, "mode=1777")) for path, how in container.profile.tmpfs.items()}
    for path, options in (memory | (SECRETS if container.keyed else {})).items():
        words += ["--mount", f"type=tmpfs,src=tmpfs,dst={path},options={options.replace(',', ':')}"]
    for (source, inside), how in [*((bind, "ro") for bind in container.binds),
                                  *((bind, "rw") for bind in container.writable)]:
        # Not rbind: read-only would hold for the uppermost mount only, and what is mounted below it stay writable.
        words += ["--mount", f"type=bind,src={source},dst={inside},options=bind:{how}"]
    if container.profile.host_ipc:
        # As `docker run --ipc=host` has it: the namespace of the shim, which is the host's, and its shared memory.
        words += ["--mount", f"type=bind,src={SHM},dst={SHM},options=bind:rw:nosuid:nodev:noexec",
                  "--with-ns", "ipc:/proc/self/ns/ipc"]
    return words


def cgroup_of(name: str) -> str:
    """The name of a container's cgroup."""
    return f"vmtool-{name}"


def exec_argv(endpoint: Endpoint, exec_id: str, fifos: Path, *words: str) -> tuple[str, ...]:
    """`ctr task exec` of these words, the container's name before the command's.

    Args:
        fifos: a directory for its pipes, which a killed `ctr` leaves behind: one that is removed with the container.
    """
    return endpoint.ctr("task", "exec", "--fifo-dir", str(fifos), "--exec-id", exec_id, *words)


def hand_over(endpoint: Endpoint, name: str, key: Path, fifos: Path, place: str = KEY) -> Run:
    """Give the keys to a container that waits for them; they go through the exec's stdin, to no argument or file."""
    argv = exec_argv(endpoint, "vmtool-key" if place == KEY else "vmtool-model-key", fifos, name,
                     "python3", "-P", "-m", "vmtool.serving.receive_keys", place)
    return Run(argv, stdin=key, deadline=60.0, hint="when the log says that an image of an older vmtool runs, build or "
               f"import it again; else: vmtool logs {name}")


def removal(endpoint: Endpoint, name: str, mark: LeaseMark) -> tuple[Action, ...]:
    """Remove a container in whatever state a failed or killed `ctr run` left it; harmless when there is none."""
    gone = ("not found", "does not exist")
    return (
        DeleteTask(endpoint.socket, NAMESPACE, name),
        Run(endpoint.ctr("container", "delete", name), absent_messages=gone),
        # `container delete` takes the snapshot along, unless `ctr run` was killed between making the two.
        Run(endpoint.ctr("snapshot", "delete", name), absent_messages=gone),
        DeleteLeases(endpoint.socket, NAMESPACE, mark.filter), Remove(mark.zone), RemoveCgroup(cgroup_of(name)),
    )
