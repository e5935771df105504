"""Kata: the shims on this host, the handlers containerd knows, and which configuration file each would read."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vmtool.architecture import ARM64
from vmtool.containerd.config_facts import ContainerdRuntime, read_runtimes
from vmtool.containerd.daemon_facts import read_daemon
from vmtool.frozen import dataclass
from vmtool.kata.config_choice import ConfigChoice, choose_config, default_paths, resolve
from vmtool.machine import Reader
from vmtool.tee.virtcca import VIRTCCA

# containerd looks for shims on its PATH; the others need a runtime_path or a path on ctr's command line.
ON_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
OFF_PATH = ("/opt/kata/bin", "/opt/kata/runtime-rs/bin")
SHIM = re.compile(r"containerd-shim-(kata[\w-]*)-v2")
# A handler leads to a Kata shim by its type, or by a path, which may be a link of any name.
WORDS = ("kata", "runtime_path")
RUST = "Rust"
NOT_CHOSEN = ConfigChoice(None, "not chosen yet")


@dataclass(frozen=True)
class KataShim:
    """A Kata shim.

    Args:
        runtime: the name for `ctr run --runtime`, such as io.containerd.kata.v2.
        binary: absolute path.
        wraps: the shim that it calls, when it is a shell script.
        on_path: whether containerd finds it by its runtime name.
        language: "Go" or "Rust"; None when it does not say.
        version: such as "3.15.0"; None when it does not say.
        environment: KATA_CONF_FILE that it sees: of its own script, else of the running containerd (as root only).
        knows_virtcca: whether the program holds QEMU's object name for virtCCA; None when that was not looked at (only
            arm64 shims are). A stock shim ignores `confidential_guest` there and boots an ordinary VM in silence.
        config: what it reads when containerd passes no ConfigPath, as `ctr run` without --runtime-config-path.
    """

    runtime: str
    binary: str
    wraps: str | None
    on_path: bool
    language: str | None
    version: str | None
    environment: str | None
    knows_virtcca: bool | None
    config: ConfigChoice


@dataclass(frozen=True)
class KataHandler:
    """A runtime of containerd's CRI configuration that leads to a Kata shim (Kubernetes comes in by it, ctr does not).

    Args:
        config_path: ConfigPath of its options; None when not set.
        config: the file that its shim reads; None when there is no such shim.
        shim: that it leads to, by runtime_path or by its type.
    """

    name: str
    runtime: str
    source: str
    config_path: str | None
    config: ConfigChoice | None
    shim: KataShim | None = None


@dataclass(frozen=True)
class KataFacts:
    """Kata on this host."""

    shims: tuple[KataShim, ...]
    handlers: tuple[KataHandler, ...]


def read_kata(reader: Reader, arch: str) -> KataFacts:
    """Look for shims and containerd's handlers, and apply the shims' own rules."""
    # containerd merges the imported files over the main one, so the last word on a name counts.
    runtimes = tuple({runtime.name: runtime for runtime in read_runtimes(reader, WORDS)}.values())
    binaries = list(_binaries(reader, runtimes))
    environment = _environment(reader) if binaries else None
    shims = tuple(_shim(reader, arch, runtime, path, environment) for runtime, path in binaries)
    found = (_handler(reader, shims, runtime) for runtime in runtimes)
    handlers = tuple(handler for handler in found if handler.shim or ".kata" in handler.runtime)
    return KataFacts(shims, handlers)


def _binaries(reader: Reader, runtimes: Sequence[ContainerdRuntime]) -> Iterator[tuple[str, str]]:
    """Runtime name and path of each; where two have one name, containerd takes the first on PATH. Handlers can name
    further ones by their paths."""
    names, files = set(), set()
    for directory in ON_PATH + OFF_PATH:
        for name in reader.names(directory):
            match, path = SHIM.fullmatch(name), f"{directory}/{name}"
            hidden = name in names and directory in ON_PATH
            if match and not hidden and resolve(reader, path) not in files:
                names.add(name)
                files.add(resolve(reader, path))
                yield f"io.containerd.{match[1]}.v2", path
    for path in filter(None, map(_own_path, runtimes)):
        match = SHIM.fullmatch(posixpath.basename(path))
        if match and reader.exists(path) and resolve(reader, path) not in files:
            files.add(resolve(reader, path))
            yield f"io.containerd.{match[1]}.v2", path


def _own_path(runtime: ContainerdRuntime) -> str | None:
    """The shim that a runtime names by its path, whatever its type says."""
    return runtime.path or (runtime.type if runtime.type.startswith("/") else None)


def _shim(reader: Reader, arch: str, runtime: str, binary: str, environment: str | None) -> KataShim:
    wraps, own = _wrapper(reader, binary)
    output = reader.run((binary, "--version"))
    text = output.out if output else ""
    language = next((name for mark, name in (("(Golang)", "Go"), ("(Rust)", RUST)) if mark in text), None)
    version = re.search(r"version: v?([\w.+-]+)", text)
    knows = _knows_virtcca(reader, wraps or binary) if arch == ARM64.machine else None
    shim = KataShim(runtime, binary, wraps, posixpath.dirname(binary) in ON_PATH, language,
                    version[1] if version else None, own or environment, knows, NOT_CHOSEN)
    return replace(shim, config=_choose(reader, shim, None))


def _knows_virtcca(reader: Reader, program: str) -> bool | None:
    """The patched runtime gives QEMU `-object tmm-guest,...`, so its program holds the name (grep: 0 found, 1 not)."""
    searched = reader.run(("grep", "--quiet", "--text", "--fixed-strings", VIRTCCA.qemu.object, program))
    return {0: True, 1: False}.get(searched.status) if searched else None


def _choose(reader: Reader, shim: KataShim, option: str | None) -> ConfigChoice:
    rust = shim.language == RUST
    defaults = default_paths(reader, shim.wraps or resolve(reader, shim.binary), rust)
    return choose_config(reader, defaults=defaults, rust=rust, version=shim.version, option=option,
                         environment=shim.environment)


def _wrapper(reader: Reader, binary: str) -> tuple[str | None, str | None]:
    """The shim that a shell script calls, and the KATA_CONF_FILE that it sets (kata-deploy made such scripts)."""
    text = reader.text(binary) or ""
    if not text.startswith("#!"):
        return None, None
    calls = re.search(r"(/\S*containerd-shim-kata\S*-v2)\b", text)
    sets = re.search(r"KATA_CONF_FILE=[\"']?([^\s\"']+)", text)
    return calls[1] if calls else None, sets[1] if sets else None


def _environment(reader: Reader) -> str | None:
    """KATA_CONF_FILE of the running containerd; only root can see it."""
    daemon = read_daemon(reader)
    for entry in (reader.text(f"/proc/{daemon.pid}/environ") or "").split("\0") if daemon else ():
        if entry.startswith("KATA_CONF_FILE="):
            return entry.partition("=")[2]
    return None


def _handler(reader: Reader, shims: tuple[KataShim, ...], runtime: ContainerdRuntime) -> KataHandler:
    path = _own_path(runtime)
    file = resolve(reader, path) if path else None
    fits = (shim for shim in shims if (file in (shim.binary, resolve(reader, shim.binary)) if file
                                       else shim.runtime == runtime.type and shim.on_path))
    shim = next(fits, None)
    return KataHandler(runtime.name, runtime.type, runtime.source, runtime.config_path,
                       _choose(reader, shim, runtime.config_path) if shim else None, shim)
