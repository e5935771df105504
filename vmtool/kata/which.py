"""Which file each shim reads, and where `kata-runtime check` would look at another."""

from __future__ import annotations

from dataclasses import dataclass

from vmtool.kata.config_choice import ConfigChoice, choose_config, default_paths, resolve
from vmtool.kata.shims import KataFacts, KataShim
from vmtool.machine import Reader


@dataclass(frozen=True)
class Reading:
    """One way to start a VM, and the file behind it.

    Args:
        name: a runtime of `ctr run`, or "handler NAME" of containerd's CRI configuration.
        tool: the file that `kata-runtime check` of the same installation looks at; None when it finds none.
    """

    name: str
    version: str | None
    config: ConfigChoice
    tool: str | None

    @property
    def differs(self) -> bool:
        """Whether a check by Kata's own tool would tell about another file, or about less than is merged."""
        return self.config.path is not None and self.config.path != self.tool


def read_which(reader: Reader, kata: KataFacts) -> tuple[Reading, ...]:
    """Shims first, then containerd's handlers."""
    found = [Reading(shim.runtime, shim.version, shim.config, _tool(reader, shim)) for shim in kata.shims]
    by_runtime = {shim.runtime: shim for shim in reversed(kata.shims)}
    for handler in kata.handlers:
        shim = by_runtime.get(handler.runtime)
        config = handler.config or ConfigChoice(None, "no shim", problem=f"{handler.runtime} leads to no shim")
        found.append(Reading(f"handler {handler.name}", shim.version if shim else None, config,
                             _tool(reader, shim) if shim else None))
    return tuple(found)


def _tool(reader: Reader, shim: KataShim) -> str | None:
    """kata-runtime knows no option of containerd's and no environment: it takes the first default that exists."""
    rust = shim.language == "Rust"
    defaults = default_paths(reader, shim.wraps or resolve(reader, shim.binary), rust)
    return choose_config(reader, defaults=defaults, rust=rust, version=shim.version, option=None, environment=None).path
