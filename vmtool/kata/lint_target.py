"""Which file is checked, as which release, and against which host."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from vmtool.errors import NotReady
from vmtool.facts.cpu import read_cpu
from vmtool.facts.kvm import read_kvm
from vmtool.kata.config_choice import resolve
from vmtool.kata.facts import Target, read_target
from vmtool.kata.lint.rules import HostView
from vmtool.machine import Reader
from vmtool.spec.kata_releases import NAMES, Release, release_like, release_of
from vmtool.tee.facts import read_tee


@dataclass(frozen=True)
class Checked:
    """What `vmtool kata check` looks at.

    Args:
        drop_ins: merged over the file, in order.
        guessed: nobody told the release; it was taken for the newest.
        host: empty for a file that was named, since that may be for another host.
    """

    file: str
    drop_ins: tuple[str, ...]
    release: Release
    guessed: bool
    host: HostView


def choose_checked(reader: Reader, file: str | None, release: Release | None) -> Checked:
    """Fill in what was not named: the shim's own file, its release.

    Raises:
        NotReady: no file was named, and no shim here reads one.
    """
    if file is not None and release is not None:
        return Checked(file, drop_ins_of(reader, file), release, False, HostView())
    target = read_target(reader)
    shim = target.shim
    known = release or (release_like(shim.version, bool(shim.knows_virtcca)) if shim else None)
    chosen = known or release_of(NAMES[-1])
    if file is not None:
        return Checked(file, drop_ins_of(reader, file), chosen, known is None, HostView())
    if shim is None or shim.config.path is None or shim.config.problem:
        raise NotReady("there is no Kata configuration on this host to check",
                       details=[shim.config.problem] if shim else ["no containerd-shim-kata*-v2 was found"],
                       hint="name a file: vmtool kata check FILE; vmtool doctor --for kata tells more")
    return Checked(shim.config.path, shim.config.drop_ins, chosen, known is None, read_host_view(reader, target))


def drop_ins_of(reader: Reader, file: str) -> tuple[str, ...]:
    """What a shim that reads this file merges over it."""
    directory = posixpath.join(posixpath.dirname(resolve(reader, file)) or ".", "config.d")
    return tuple(posixpath.join(directory, name) for name in reader.names(directory) if name.endswith(".toml"))


def read_host_view(reader: Reader, target: Target) -> HostView:
    """The host as the lint sees it; virtCCA stays unknown, since only a KVM that is tried tells."""
    cpu = read_cpu(reader)
    found = read_tee(reader, cpu, read_kvm(reader, cpu, probe=False))
    available = {name: support.available for name, support in found.items()}
    return HostView(target.memory, target.cores, available, reader.exists)
