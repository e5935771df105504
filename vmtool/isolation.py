"""What keeps a stranger's code and settings away from vmtool and from what it starts.

A program gets the environment that is written here and the root directory to stand in. A Python gets -I besides: it
then looks for modules neither where a person stands nor where variables or a user's own site-packages lead. vmtool
itself starts the same way, so that what it loads later (OpenSSL's engines, glibc's converters) is not the caller's.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from urllib.parse import quote

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}
# Where packages come from and how they are reached. Not all that pip would take: PIP_PYTHON names a program, and
# PIP_CONFIG_FILE a file that can name one.
PIP = tuple(f"PIP_{name}" for name in (
    "INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX", "FIND_LINKS", "TRUSTED_HOST", "CERT", "CLIENT_CERT", "PROXY", "TIMEOUT",
    "DEFAULT_TIMEOUT", "RETRIES", "CACHE_DIR", "NO_CACHE_DIR", "CONSTRAINT"))
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# What programs that fetch packages get of the caller's environment.
FETCHING = ("HOME", *PIP, *CERTIFICATES, *PROXIES)
OWN = ("VMTOOL_STATE_DIR", "VMTOOL_CACHE", "XDG_CACHE_HOME")
TERMINAL = ("TERM", "NO_COLOR", "COLUMNS", "LINES", "LANG", "LC_ALL", "LC_CTYPE", "_VMTOOL_COMPLETE", "COMP_WORDS",
            "COMP_CWORD")

# An ordinary user has further ids (subuid(5)) for the users that packages have.
OWN_IDS = ("unshare", "--map-root-user", "--map-auto")
# What would end with vmtool forgets that when it gets other ids (prctl(2), PR_SET_PDEATHSIG), so it is set again.
_AS_ROOT = (*OWN_IDS, "setpriv", "--pdeathsig", "KILL")


def python(*words: str) -> tuple[str, ...]:
    """The words that start a Python like this one, such as ("-m", "pip"): the one way to start one."""
    return (sys.executable, "-I", *words)


def python_uri(module: str, word: str) -> str:
    """The same as a URI of containerd's (`binary://`), which passes one name and one value on in their order."""
    path, name, value = (quote(os.fsencode(each)) for each in (sys.executable, f"-Im{module}", word))
    return f"binary://{path}?{name}={value}"


def own_environment(environ: Mapping[str, str], uid: int) -> dict[str, str]:
    """What vmtool itself keeps of its caller's environment; root's home is the one that passwd(5) says."""
    kept = {name: environ[name] for name in (*FETCHING, *OWN, *TERMINAL) if name in environ}
    if uid == 0 or "HOME" not in kept:
        kept["HOME"] = _home(uid)
    # Else pydantic looks through every installed package for plugins of its own, and would run them.
    return kept | {"PATH": PATH, "PYDANTIC_DISABLE_PLUGINS": "__all__"}


def is_isolated(environ: Mapping[str, str]) -> bool:
    """Whether this process was started with -I, and with nothing for the dynamic loader or the C library's converters,
    which read their variables once."""
    return bool(sys.flags.isolated) and not any(name.startswith(("LD_", "GCONV_PATH")) for name in environ)


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def private(*, root: bool) -> tuple[str, ...]:
    """The words before a program that has /proc, mounts and processes of its own: whatever ends it, nothing is left.

    Args:
        root: vmtool runs as root.
    """
    return (*(() if root else _AS_ROOT), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
