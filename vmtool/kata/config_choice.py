"""Which configuration file a Kata shim reads, and what is merged into it.

The rules are those of the shims' sources (Go: src/runtime/pkg/containerd-shim-v2/create.go and
pkg/katautils/config.go; Rust: load_config of runtime-rs). `kata-runtime check` follows only the last of them.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from vmtool.machine import Reader

ETC = "/etc/kata-containers/configuration.toml"
SHARE = "share/defaults/kata-containers/configuration.toml"
RUST_DEFAULTS = ("/etc/kata-containers/runtime-rs/configuration.toml",
                 "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
                 "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml")
# From this version on the Go shim refuses a KATA_CONF_FILE that is none of its default files.
STRICT_SINCE = (4, 0)


@dataclass(frozen=True)
class ConfigChoice:
    """The configuration file of a shim.

    Args:
        path: the file that is read, links resolved; None when there is none.
        reason: the rule by which it was chosen.
        drop_ins: files of config.d beside it, in the order in which they are merged.
        problem: why the shim would not start with it; empty when nothing speaks against it.
    """

    path: str | None
    reason: str
    drop_ins: tuple[str, ...] = ()
    problem: str = ""


def default_paths(reader: Reader, program: str, rust: bool) -> tuple[str, ...]:
    """The files that the shim tries when nobody names one: asked of kata-runtime beside it, else by its prefix."""
    if rust:
        return RUST_DEFAULTS
    prefix = posixpath.dirname(posixpath.dirname(program))
    told = reader.run((f"{prefix}/bin/kata-runtime", "--show-default-config-paths"))
    if told and told.status == 0:
        return tuple(line.strip() for line in told.out.splitlines() if line.strip().startswith("/"))
    # A package under /usr or /usr/local has its defaults under /usr; the release archive is built for /opt/kata.
    return ETC, f"{prefix if prefix.startswith('/opt') else '/usr'}/{SHARE}"


def choose_config(reader: Reader, *, defaults: tuple[str, ...], rust: bool, version: str | None, option: str | None,
                  environment: str | None) -> ConfigChoice:
    """Apply the rules.

    Args:
        defaults: the shim's own default files.
        version: of the shim, "3.15.0"; None when it does not tell, then it is taken for a strict one.
        option: ConfigPath of containerd's runtime options; None when containerd passes none.
        environment: KATA_CONF_FILE that the shim would see.
    """
    named = [(option, "runtime option ConfigPath"), (environment, "environment variable KATA_CONF_FILE")]
    for path, reason in reversed(named) if rust else named:
        if path:
            strict = path == environment and reason.startswith("environment") and (rust or _is_strict(version))
            return _named(reader, path, reason, defaults if strict else ())
    for path in defaults:
        if reader.exists(path):
            return _found(reader, path, "first default file that exists")
    return ConfigChoice(None, "no default file exists", problem=f"none of {', '.join(defaults)} exists")


def _is_strict(version: str | None) -> bool:
    """Whether a Go shim of this version accepts only its own default files from the environment."""
    numbers = [part for part in (version or "").split(".")[:2] if part.isdecimal()]
    return len(numbers) < 2 or tuple(map(int, numbers)) >= STRICT_SINCE


def _named(reader: Reader, path: str, reason: str, only: tuple[str, ...]) -> ConfigChoice:
    if not reader.exists(path):
        return ConfigChoice(path, reason, problem=f"{path} does not exist")
    choice = _found(reader, path, reason)
    if only and choice.path not in {resolve(reader, default) for default in only}:
        return ConfigChoice(choice.path, reason, choice.drop_ins,
                            f"the shim refuses a KATA_CONF_FILE that is none of its defaults: {', '.join(only)}")
    return choice


def _found(reader: Reader, path: str, reason: str) -> ConfigChoice:
    real = resolve(reader, path)
    directory = posixpath.join(posixpath.dirname(real), "config.d")
    names = [name for name in reader.names(directory) if name.endswith(".toml")]
    return ConfigChoice(real, reason, tuple(posixpath.join(directory, name) for name in names))


def resolve(reader: Reader, path: str) -> str:
    """Where the file's own symbolic links lead (not its directories'); a loop ends after eight."""
    for _ in range(8):
        target = reader.link(path)
        if target is None:
            break
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return path
