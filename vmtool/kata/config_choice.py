"""Which configuration file a Kata shim reads, and what is merged into it.

The rules are those of the shims' sources (Go: src/runtime/pkg/containerd-shim-v2/create.go and
pkg/katautils/config.go; Rust: load_config of runtime-rs). `kata-runtime check` follows only the last of them.
"""

from __future__ import annotations

import posixpath

from vmtool.frozen import dataclass
from vmtool.machine import Reader

ETC = "/etc/kata-containers/configuration.toml"
SHARE = "share/defaults/kata-containers/configuration.toml"
RUST_DEFAULTS = ("/etc/kata-containers/runtime-rs/configuration.toml",
                 "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
                 "/opt/kata/share/defaults/kata-containers/runtime-rs/configuration.toml")
# From this version on both shims refuse a KATA_CONF_FILE that is none of their default files.
STRICT_SINCE = (4, 0)
# As many links as Linux follows.
LINKS = 40


@dataclass(frozen=True)
class ConfigChoice:
    """The configuration file of a shim.

    Args:
        path: the file that is read, links resolved; None when there is none.
        reason: the rule by which it was chosen.
        drop_ins: files of config.d next to it, in the order in which they are merged.
        problem: why the shim would not start with it; empty when there is no reason.
    """

    path: str | None
    reason: str
    drop_ins: tuple[str, ...] = ()
    problem: str = ""


def default_paths(reader: Reader, program: str, rust: bool) -> tuple[str, ...]:
    """The files that the shim tries when nobody names one: as kata-runtime next to it says, else by its prefix."""
    if rust:
        return RUST_DEFAULTS
    prefix = posixpath.dirname(posixpath.dirname(program))
    output = reader.run((f"{prefix}/bin/kata-runtime", "--show-default-config-paths"))
    if output and output.status == 0:
        return tuple(line.strip() for line in output.out.splitlines() if line.strip().startswith("/"))
    # A package under /usr or /usr/local has its defaults under /usr; the release archive is built for /opt/kata.
    return ETC, f"{prefix if prefix.startswith('/opt') else '/usr'}/{SHARE}"


def choose_config(reader: Reader, *, defaults: tuple[str, ...], rust: bool, version: str | None, option: str | None,
                  environment: str | None) -> ConfigChoice:
    """Apply the rules.

    Args:
        defaults: the shim's own default files.
        version: of the shim, "3.15.0"; None when unknown, then it is taken for a strict one.
        option: ConfigPath of containerd's runtime options; None when containerd passes none.
        environment: KATA_CONF_FILE that the shim would see.
    """
    named = [(option, "runtime option ConfigPath"), (environment, "environment variable KATA_CONF_FILE")]
    for path, reason in reversed(named) if rust else named:
        if path:
            strict = path == environment and reason.startswith("environment") and _is_strict(version)
            return _named(reader, path, reason, defaults if strict else ())
    for path in defaults:
        if reader.exists(path):
            return choose_named(reader, path, "first default file that exists")
    return ConfigChoice(None, "no default file exists", problem=f"none of {', '.join(defaults)} exists")


def _is_strict(version: str | None) -> bool:
    """Whether a shim of this version accepts only its own default files from the environment."""
    numbers = [part for part in (version or "").split(".")[:2] if part.isdecimal()]
    return len(numbers) < 2 or tuple(map(int, numbers)) >= STRICT_SINCE


def _named(reader: Reader, path: str, reason: str, only: tuple[str, ...]) -> ConfigChoice:
    if not reader.exists(path):
        return ConfigChoice(path, reason, problem=f"{path} does not exist")
    choice = choose_named(reader, path, reason)
    if only and choice.path not in {resolve(reader, default) for default in only}:
        return ConfigChoice(choice.path, reason, choice.drop_ins,
                            f"the shim refuses a KATA_CONF_FILE that is none of its defaults: {', '.join(only)}")
    return choice


def choose_named(reader: Reader, path: str, reason: str) -> ConfigChoice:
    """A file that somebody named, with what is merged over it."""
    real = resolve(reader, path)
    directory = posixpath.join(posixpath.dirname(real), "config.d")
    found = drop_ins_of(reader, real)
    problem = ""
    if reader.exists(directory) and not is_directory(reader, directory):
        problem = f"{directory} is no directory, which the shim does not start with, or not open to this user"
    for extra in found:
        if is_directory(reader, extra):
            problem = problem or f"{extra} is a directory, and the shim reads every entry of config.d as a file"
        elif not reader.exists(extra):
            problem = problem or f"{extra} leads nowhere, and the shim reads every entry of config.d"
    return ConfigChoice(real, reason, found, problem)


def drop_ins_of(reader: Reader, file: str) -> tuple[str, ...]:
    """What a shim that reads this file merges over it: every entry of config.d, whatever it is called."""
    directory = posixpath.join(posixpath.dirname(resolve(reader, file)) or ".", "config.d")
    return tuple(posixpath.join(directory, name) for name in reader.names(directory))


def is_directory(reader: Reader, path: str) -> bool:
    return reader.exists(f"{path}/.")


def resolve(reader: Reader, path: str) -> str:
    """Where its symbolic links lead, those of its directories too, as the kernel follows them; a loop ends it."""
    parts, real, left = path.split("/"), "", LINKS
    absolute = path.startswith("/")
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == ".." and real not in ("", ".."):
            real = posixpath.dirname(real).rstrip("/")
            continue
        here = f"{real}/{part}" if real or absolute else part
        target = reader.link(here) if left else None
        if target is None:
            real = here
            continue
        left -= 1
        parts = target.split("/") + parts
        if target.startswith("/"):
            real, absolute = "", True
    return real or ("/" if absolute else ".")
