"""The build host's own settings for pip, proxies and apt: a build honours them, and no image keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vmtool.errors import NotReady
from vmtool.isolation import FETCHING
from vmtool.machine import Reader
from vmtool.plan import Pairs

PASSWORD = re.compile(r"://[^/\s@]+@")


def build_environment(environ: Mapping[str, str]) -> Pairs:
    """The variables that pip and buildah shall see. pip reads its own configuration files besides.

    Raises:
        NotReady: one holds a password: it would stand in the journal and in the processes' environment.
    """
    names = [name for name in environ if name in FETCHING]
    secret = [name for name in sorted(names) if PASSWORD.search(environ[name])]
    if secret:
        raise NotReady(f"{', '.join(secret)}: holds a user name or password, which vmtool does not copy around",
                       hint="put it into ~/.netrc or pip.conf (mode 0600), and unset the variable")
    return tuple((name, environ[name]) for name in sorted(names))


def apt_sources(reader: Reader, suite: str) -> tuple[str, ...]:
    """The host's apt source files that describe the Debian release and nothing else; empty for Debian's own mirror."""
    folder = "/etc/apt/sources.list.d"
    paths = ["/etc/apt/sources.list", *(f"{folder}/{name}" for name in reader.names(folder))]
    texts = {path: reader.text(path) for path in paths if path.endswith((".list", ".sources"))}
    fitting = {path: found for path, text in texts.items() if text and (found := _suites(path, text, suite))}
    return tuple(fitting) if any(suite in found for found in fitting.values()) else ()


def apt_options(reader: Reader) -> tuple[str, ...]:
    """The host's apt proxies as options for another apt.

    Raises:
        NotReady: one holds a password.
    """
    output = reader.run(("apt-config", "dump"))
    lines = [line for line in (output.out if output else "").splitlines()
             if re.match(r'Acquire::https?::(Proxy|CaInfo)(::\S+)? "', line)]
    if any(PASSWORD.search(line) for line in lines):
        raise NotReady("apt's proxy holds a password, which vmtool does not copy around",
                       hint="move it to a file below /etc/apt/auth.conf.d")
    return tuple(line.rstrip(";") for line in lines)


def _suites(path: str, text: str, suite: str) -> set[str]:
    """The suites of a source file, or nothing when it offers more than the release's own."""
    if path.endswith(".sources"):
        lines = re.findall(r"(?m)^Suites:\s*(.+)$", text)
    else:
        lines = re.findall(r"(?m)^deb\s+(?:\[[^]]*\]\s+)?\S+\s+(\S+)", text)
    suites = {word for line in lines for word in line.split()}
    own = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates"}
    third_party = not re.search(r"(?m)(^Components:|\s)\s*main\b", text)
    return suites if suites <= own and not third_party else set()
