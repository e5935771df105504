"""Which file is checked, as which release, and against which host."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from vmtool.errors import NotReady, Refused
from vmtool.frozen import dataclass
from vmtool.kata.config_choice import choose_named
from vmtool.kata.lint.target import HostView
from vmtool.machine import Reader
from vmtool.spec.kata_releases import USUAL, Release, release_of

if TYPE_CHECKING:
    from vmtool.kata.facts import Target


@dataclass(frozen=True)
class CheckedFile:
    """What `vmtool kata check` looks at.

    Args:
        drop_ins: merged over the file, in order.
        guessed: nothing said the release; it was taken for the usual one.
        host: empty for a file that was named, since that may be for another host.
    """

    file: str
    drop_ins: tuple[str, ...]
    release: Release
    guessed: bool
    host: HostView


def choose_checked(reader: Reader, file: str | None, release: Release | None) -> CheckedFile:
    """Fill in what was not named: the shim's own file, its release.

    Raises:
        NotReady: no file was named, and no shim here reads one.
        Refused: what is in the config.d of a named file keeps every shim from starting.
    """
    if file is not None and release is not None:
        return CheckedFile(file, _drop_ins(reader, file), release, False, HostView())
    from vmtool.kata.facts import read_target  # takes longer than a named file's whole check

    target = read_target(reader)
    shim = target.shim
    known = release or target.release
    chosen = known or release_of(USUAL)
    if file is not None:
        return CheckedFile(file, _drop_ins(reader, file), chosen, known is None, HostView())
    if shim and shim.config.path and shim.config.problem:
        raise NotReady(f"{shim.binary} does not start with {shim.config.path}", details=[shim.config.problem],
                       hint="correct that; then: vmtool kata which")
    if shim is None or shim.config.path is None:
        raise NotReady("there is no Kata configuration on this host to check",
                       details=[shim.config.problem] if shim else ["no containerd-shim-kata*-v2 was found"],
                       hint="name a file: vmtool kata check FILE; vmtool doctor --for kata")
    return CheckedFile(shim.config.path, shim.config.drop_ins, chosen, known is None, read_host_view(reader, target))


def _drop_ins(reader: Reader, file: str) -> tuple[str, ...]:
    """Of a file that a person names.

    Raises:
        Refused: what is in config.d keeps every shim from starting.
    """
    choice = choose_named(reader, file, "named")
    if choice.path and choice.problem:
        raise Refused(f"{file}: {choice.problem}",
                      hint=f"look what is there: ls -la {posixpath.dirname(choice.path) or '.'}/config.d")
    return choice.drop_ins


def read_host_view(reader: Reader, target: Target) -> HostView:
    """The host as the lint sees it; virtCCA stays unknown, which only a KVM that is tried shows."""
    from vmtool.facts.cpu import read_cpu
    from vmtool.facts.kvm import read_kvm
    from vmtool.tee.facts import read_tee

    cpu = read_cpu(reader)
    found = read_tee(reader, cpu, read_kvm(reader, cpu, probe=False))
    available = {name: support.available for name, support in found.items()}
    return HostView(target.memory, target.cores, available, reader.exists)
