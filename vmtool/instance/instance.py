"""An instance as its directory shows: what was launched, and what has become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from vmtool.containerd.endpoint import Endpoint
from vmtool.endpoint.client import Server
from vmtool.engine.journal import JournalState
from vmtool.errors import Damaged, VmtoolError
from vmtool.frozen import dataclass
from vmtool.host.event_log import GUEST_LOG
from vmtool.machine import Trust


@dataclass(frozen=True)
class Paths:
    """The files of an instance's directory.

    Args:
        slot: of the launch; what is of one launch only is in there.
    """

    directory: Path
    slot: str = ""

    @property
    def place(self) -> Path:
        """Where the files of this launch are; the others are the instance's, whichever launch it is."""
        return self.directory / self.slot

    @property
    def record(self) -> Path:
        return self.place / "instance.json"

    @property
    def spec(self) -> Path:
        return self.place / "spec.json"

    @property
    def plan(self) -> Path:
        return self.place / "plan.json"

    @property
    def evidence(self) -> Path:
        """The directory of what was seen."""
        return self.place / "evidence"

    @property
    def key(self) -> Path:
        return self.directory / "secret" / "api-key"

    @property
    def manager(self) -> Path:
        """The key of whoever may change who may ask; it does not leave this host but to the front."""
        return self.directory / "secret" / "manager-key"

    @property
    def scraper(self) -> Path:
        """The key of whoever reads the metrics."""
        return self.directory / "secret" / "metrics-key"

    @property
    def access(self) -> Path:
        """What is handed over: API keys and tokens."""
        return self.place / "secret" / "access"

    @property
    def tls(self) -> Path:
        """The directory of what `vmtool.tls.workers.prepare` makes ready."""
        return self.place / "secret" / "tls"

    @property
    def tokens(self) -> Path:
        """The named tokens, by their digests; they outlive a stop."""
        return self.directory / "tokens"

    @property
    def fifos(self) -> Path:
        """The pipes of what `ctr` runs inside, through which the key goes: they go with the key, also after a kill."""
        return self.place / "secret" / "fifo"

    @property
    def pidfile(self) -> Path:
        return self.place / "container.pid"

    @property
    def log(self) -> Path:
        """What the workload writes."""
        return self.place / GUEST_LOG

    @property
    def console(self) -> Path:
        """What the kernel of a guest of libvirt's writes."""
        return self.place / "log" / "console.log"

    @property
    def guest(self) -> Path:
        """What such a guest said of itself at the start."""
        return self.evidence / "guest.txt"

    @property
    def stopped(self) -> Path:
        """There when it was stopped on purpose: nothing but a person starts it again. See `promise.is_stopped`."""
        return self.directory / "stopped"

    @property
    def watch(self) -> Path:
        """What `vmtool watch` must not forget of it."""
        return self.directory / "watch.json"

    @property
    def watched_canary(self) -> Path:
        """What the canary's question showed when watch asked it last."""
        return self.directory / "watch-canary.json"

    @property
    def network(self) -> Path:
        return self.place / "net"

    @property
    def kata(self) -> Path:
        """Kata's configuration, as it was rendered for this instance."""
        return self.place / "kata" / "configuration.toml"

    @property
    def server(self) -> Path:
        """What the server said of its arguments once it was healthy."""
        return self.evidence / "server.json"

    @property
    def canary(self) -> Path:
        return self.evidence / "canary.json"

    @property
    def proof(self) -> Path:
        """The claims of the newest whole look."""
        return self.evidence / "proof.json"


@dataclass(frozen=True)
class InstanceRecord:
    """What `run` wrote down about an instance, all of it known before the first change.

    Args:
        digest: SHA-256 of the spec, so that a second `run` of the same spec is recognised.
        socket, private: the containerd that holds it.
        host, port: where the server is published; an empty host when it is not.
        manage: the port of the container on which the front answers the host alone; 0 of an instance that an earlier
            vmtool started.
        tls: whether the endpoint speaks TLS; client_certificate: whether it asks for a certificate.
        devices: PCI addresses that were passed on.
        image_digest, image_chain, image_origin: see `vmtool.image.pinned_image`; empty of an instance that vmtool 0.1
            started.
        details: of the launcher that started it, for its own claims. A guest's are `program` and `kernel` (the emulator
            and the guest kernel that its configuration names), `rendered` (path of that configuration) and
            `configuration` (its SHA-256); libvirt's also `uri` (the libvirt that was asked) and `channel` (the socket
            of the guest's agent).
        slot: see `Paths`.
    """

    name: str
    digest: str
    handler: str
    tee: str
    image: str
    model: str
    socket: str
    private: bool
    host: str
    port: int
    netns: str
    result: str
    memory: int
    devices: tuple[str, ...] = ()
    image_digest: str = ""
    image_chain: str = ""
    image_origin: str = ""
    manage: int = 0
    tls: bool = False
    client_certificate: bool = False
    details: Mapping[str, str] = field(default_factory=dict)
    slot: str = ""

    @property
    def unit(self) -> str:
        """How what was launched is called on the machine."""
        return unit_of(self.name, self.slot)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(Path(self.socket), self.private)

    @property
    def server(self) -> Server:
        return Server(self.host, self.port, Path(self.result), self.trust)

    @property
    def managed(self) -> Server:
        """Where the front answers the host alone."""
        trust = self.trust
        # Whoever gives it another certificate must reach it also when the one that it shows has ended.
        return Server("", self.manage, Path(self.result), replace(trust, ended=True) if trust else None)

    @property
    def trust(self) -> Trust | None:
        """By what vmtool knows its endpoint; None when it speaks plain HTTP."""
        directory = Paths(Path(self.result).parents[1]).tls
        return Trust(directory, own=self.client_certificate) if self.tls else None

    @property
    def confidential(self) -> bool:
        """Whether a TEE was asked for; whether there is one, only a look at the running guest shows."""
        return self.tee != "none"


@dataclass(frozen=True)
class Instance:
    """One instance now.

    Args:
        record: None when the launch ended before it was written.
        state: starting, running, upgrading (a new one is launched beside it), stopped (its process ended),
            interrupted, failed, kept (failed, not undone), or damaged (what it is and how it is undone is not as it
            was written), whether or not it runs.
        pid: the container's first process, when it lives.
        busy: its journal is open, and a command is at work on it.
        damage: what is wrong, and the way out.
    """

    name: str
    paths: Paths
    record: InstanceRecord | None
    state: str
    pid: int | None
    journal: JournalState = field(default_factory=JournalState)
    damage: Damaged | None = None
    busy: bool = False

    @property
    def serves(self) -> bool:
        """Whether it runs, and is known well enough to be asked: also when its journal is damaged."""
        return self.state == "running" or bool((self.damage or self.state == "upgrading") and self.record and self.pid)

    @property
    def half_upgraded(self) -> bool:
        """Whether an upgrade of it was begun and has not come to its end: there is a new one, or what is left of the
        old."""
        return bool(self.journal.previous or self.journal.retired)

    @property
    def unit(self) -> str:
        """How what was launched is called on the machine."""
        return self.record.unit if self.record else unit_of(self.name, self.paths.slot)

    def known(self) -> InstanceRecord:
        """The record.

        Raises:
            VmtoolError: the launch ended before there was one, or it is damaged.
        """
        if self.record is None and self.damage:
            raise self.damage
        if self.record is None:
            raise VmtoolError(f"{self.name} was never started: {self.journal.error or self.state}",
                              hint=f"vmtool logs {self.name}")
        return self.record


def unit_of(name: str, slot: str) -> str:
    """How the launch in a slot is called on the machine: its container, network namespace and guest. No instance can be
    named so."""
    return f"{name}.{slot}" if slot else name


def subject_of(name: str) -> str:
    """How an instance is called in journals and as an owner."""
    return f"instance {name}"
