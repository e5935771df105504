"""What Kata demands of a guest image, and what a GPU guest needs besides: a finding for each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmtool.findings import Finding, finding
from vmtool.rootfs.inspect.tree import Tree, resolve

UNIT_DIRS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
AGENT = "/usr/bin/kata-agent"
HOOKS = "/usr/share/oci/hooks"
# Older ones let a container out (CVE-2025-23359).
TOOLKIT_LEAST = (1, 17, 4)


def check_kata(tree: Tree) -> Iterator[Finding]:
    """Kata's own demands (its osbuilder, rootfs.sh and image_builder.sh)."""
    yield _file(tree, "kata.init", "first process", "/sbin/init", "put systemd-sysv (Debian) or systemd (RPM) into it")
    yield _file(tree, "kata.agent", "Kata's agent", AGENT,
                f"take it from the Kata release that the host runs, then: vmtool rootfs add IMAGE file {AGENT} FILE")
    for unit in ("kata-agent.service", "kata-containers.target", "tmp.mount"):
        place = find_unit(tree, unit)
        yield finding(f"kata.{unit.partition('.')[0]}", unit, "ok" if place else "fail",
                      place or f"in none of {', '.join(UNIT_DIRS[:2])}", f"a recipe with a `kata` part brings {unit}")
    wanted = any(tree.look(f"{place}/basic.target.wants/kata-containers.target") for place in UNIT_DIRS)
    yield finding("kata.wanted", "kata-containers.target is started", "ok" if wanted else "fail",
                  "wanted by basic.target" if wanted else "not in any basic.target.wants",
                  "link it to /etc/systemd/system/basic.target.wants/")
    node = tree.look("/etc/machine-id")
    good = node is not None and node.kind == "file" and node.size == 0
    detail = "empty" if good else "absent" if node is None else f"a {node.kind} of {node.size} bytes"
    yield finding("kata.machine-id", "machine-id", "ok" if good else "fail", detail,
                  "make /etc/machine-id an empty file, so that every guest gets one of its own")


def check_hooks(tree: Tree, hook_path: str = HOOKS) -> Iterator[Finding]:
    """The prestart hooks, as Kata's agent takes them: regular executable files and nothing else."""
    names = tree.names(f"{hook_path}/prestart")
    if not names:
        yield finding("hook.present", "prestart hook", "warn", f"nothing in {hook_path}/prestart",
                      "vmtool rootfs add IMAGE hook, or use CDI in the guest")
    for name in names:
        path = f"{hook_path}/prestart/{name}"
        node = tree.look(path)
        if node and node.kind == "link":
            detail = f"{path} is a symbolic link to {node.target}: the agent skips it"
        elif node and not node.executable:
            detail = f"{path} has mode {node.mode:04o}: the agent skips what is not executable"
        else:
            detail = ""
        yield finding("hook.runnable", f"hook {name}", "fail" if detail else "ok", detail or path,
                      "vmtool rootfs add IMAGE hook")


def check_toolkit(version: str, present: bool) -> Iterator[Finding]:
    """The NVIDIA container toolkit's version, as the package database tells it."""
    title = "NVIDIA container toolkit"
    if not present:
        yield finding("toolkit.version", title, "warn", "absent", "name it in the recipe's `toolkit`")
    elif not version:
        yield finding("toolkit.version", title, "not-checked", "no Debian package owns it, so its version is unknown",
                      f"it must be at least {'.'.join(map(str, TOOLKIT_LEAST))}")
    else:
        yield finding("toolkit.version", title, "ok" if is_safe(version) else "fail", version,
                      f"{'.'.join(map(str, TOOLKIT_LEAST))} closes CVE-2025-23359, a way out of the container")


def is_safe(version: str) -> bool:
    """Whether the toolkit has no known way out of a container; a version that cannot be read has."""
    match = re.match(r"(?:\d+:)?(\d+)\.(\d+)\.(\d+)", version)
    # A pre-release of the first good version comes before it.
    return bool(match) and tuple(map(int, match.groups())) >= TOOLKIT_LEAST and (  # type: ignore[union-attr]
        not re.match(r"(?:\d+:)?1\.17\.4~", version))


def find_unit(tree: Tree, unit: str) -> str:
    """Where a unit file is; empty when nowhere, or when it is masked."""
    for directory in UNIT_DIRS:
        path, node = resolve(tree, f"{directory}/{unit}")
        if node and node.kind == "file":
            return f"{directory}/{unit}"
        if path == "/dev/null":
            return ""
    return ""


def _file(tree: Tree, id: str, title: str, path: str, hint: str) -> Finding:
    at, node = resolve(tree, path)
    good = node is not None and node.executable
    detail = at if good else f"{path} is absent" if node is None else f"{at} is no executable file"
    return finding(id, title, "ok" if good else "fail", detail, hint)
