"""Which file each shim reads, and where `kata-runtime check` would look at another."""

from __future__ import annotations

from vmtool.frozen import dataclass
from vmtool.kata.config_choice import ConfigChoice, choose_config, default_paths, resolve
from vmtool.kata.shims import RUST, KataFacts, KataShim
from vmtool.machine import Reader
from vmtool.spec.kata_releases import LAST_CONFIG_PATH, release_like

ANNOTATION = "io.katacontainers.config_path"


@dataclass(frozen=True)
class Reading:
    """One way to start a VM, and the file behind it.

    Args:
        name: a runtime of `ctr run`, or "handler NAME" of containerd's CRI configuration.
        tool: the file that `kata-runtime check` of the same installation looks at; None when it finds none.
        language: of the shim, "Go" or "Rust"; None when it does not say.
        override: the annotation by which whoever creates a pod can name another file; empty when there is none.
    """

    name: str
    version: str | None
    config: ConfigChoice
    tool: str | None
    language: str | None = None
    override: str = ""

    @property
    def differs(self) -> bool:
        """Whether a check by Kata's own tool would be about another file, or about less than is merged."""
        return self.config.path is not None and self.config.path != self.tool


def read_which(reader: Reader, kata: KataFacts) -> tuple[Reading, ...]:
    """Shims first, then containerd's handlers."""
    found = [_reading(reader, shim.runtime, shim, shim.config) for shim in kata.shims]
    for handler in kata.handlers:
        shim = handler.shim
        config = handler.config or ConfigChoice(None, "no shim", problem=f"{handler.runtime} leads to no shim")
        found.append(_reading(reader, f"handler {handler.name}", shim, config))
    return tuple(found)


def _reading(reader: Reader, name: str, shim: KataShim | None, config: ConfigChoice) -> Reading:
    if shim is None:
        return Reading(name, None, config, None)
    return Reading(name, shim.version, config, _tool(reader, shim), shim.language, _override(shim))


def _override(shim: KataShim) -> str:
    """What beats the file: an annotation of the pod, which Go shims up to 3.30 look at before everything else."""
    release = release_like(shim.version)
    old = shim.language == "Go" and release is not None and release.version <= LAST_CONFIG_PATH
    return ANNOTATION if old else ""


def _tool(reader: Reader, shim: KataShim) -> str | None:
    """kata-runtime knows no option of containerd's and no environment: it takes the first default that exists."""
    rust = shim.language == RUST
    defaults = default_paths(reader, shim.wraps or resolve(reader, shim.binary), rust)
    return choose_config(reader, defaults=defaults, rust=rust, version=shim.version, option=None, environment=None).path
