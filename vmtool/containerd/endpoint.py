"""Which containerd serves: the system's when it answers, else a private one that vmtool starts and stops."""

from __future__ import annotations

from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.paths import State
from vmtool.plan import Action, MakeDir, Remove, StartDaemon, Step, StopDaemon, WriteFile

NAMESPACE = "vmtool"
SYSTEM = Path("/run/containerd/containerd.sock")

# The Kubernetes plugin takes most of the start-up time; `opt` would create /opt/containerd; the other snapshotters
# want kernel modules or devices that are not needed.
CONFIG = """version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{socket}"

[ttrpc]
address = "{socket}.ttrpc"
"""


@dataclass(frozen=True)
class Endpoint:
    """A containerd to talk to."""

    socket: Path
    private: bool

    def ctr(self, *words: str) -> tuple[str, ...]:
        """The argv of a `ctr` call in vmtool's namespace."""
        return ("ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *words)


def private_endpoint(state: State) -> Endpoint:
    """The containerd under the state directory, running or not."""
    return Endpoint(state.run / "containerd.sock", private=True)


def choose_endpoint(state: State, system_answers: bool) -> Endpoint:
    """The containerd that a new instance or image uses."""
    return Endpoint(SYSTEM, private=False) if system_answers else private_endpoint(state)


def start_daemon(state: State) -> StartDaemon:
    """Start the private containerd; does nothing when it runs."""
    return StartDaemon(("containerd", "--config", str(state.containerd / "config.toml")),
                       pidfile=state.run / "containerd.pid", log=state.containerd / "containerd.log",
                       socket=state.run / "containerd.sock")


def awake(state: State, endpoint: Endpoint) -> tuple[Action, ...]:
    """What an undo that talks to containerd must do first: a private one may have been killed."""
    return (MakeDir(state.run), start_daemon(state)) if endpoint.private else ()


def plan_containerd(state: State, endpoint: Endpoint, user: str) -> Step:
    """Make sure that containerd runs, and note that `user` needs it; the last user's undo stops a private one.

    Args:
        user: who needs it, such as an instance's name.
    """
    if not endpoint.private:
        return Step("containerd", skip=f"the system's answers on {endpoint.socket}")
    users = state.containerd / "users"
    config = CONFIG.format(root=state.containerd / "root", state=state.run / "containerd", socket=endpoint.socket)
    daemon = start_daemon(state)
    return Step(
        "containerd: start a private one",
        (MakeDir(users), MakeDir(state.run), WriteFile(users / user, ""),
         WriteFile(state.containerd / "config.toml", config), daemon),
        undo=(Remove(users / user), StopDaemon(daemon.pidfile, users)),
    )
