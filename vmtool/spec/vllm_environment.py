"""Environment variables of the workload: an allow-list by what they can do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from vmtool.serving.vllm_arguments import LONGEST
from vmtool.serving.vllm_options import PLAIN, POWERS, SECRET, UNKNOWN, table

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
SECRET_WORDS = {"KEY", "KEYS", "TOKEN", "TOKENS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL",
                "CREDENTIALS", "PAT", "AUTH"}
# What the loader, the C library, Python and shells read before any program of ours runs.
LOADED = re.compile(r"LD_|PYTHON|GCONV_PATH|GLIBC_TUNABLES|LOCPATH|NLSPATH|BASH_ENV|ENV$|IFS$|PATH$|PERL5?|"
                    r"NODE_OPTIONS|CUDA_INJECTION|TRITON_|TORCHINDUCTOR_|LIBRARY_PATH|OPENSSL_CONF|OPENSSL_MODULES")
TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{30}|sk-[A-Za-z0-9_-]{20}|gh[opsur]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{20}|"
                   r"glpat-[A-Za-z0-9_-]{20}|AKIA[0-9A-Z]{16})")
IN_FILE = "which others can read: give keys of the endpoint in spec.vllm.api_key_file"


def holds_secret(text: str) -> bool:
    """Whether a text holds what is known as a token by its form, or an address with somebody's password: of a proxy it
    may stand without a scheme. It is looked for without regular expressions, which would take hours for a long text."""
    for part in text.split("://"):
        user, _, host = re.split(r"[/\s,]", part, maxsplit=1)[0].rpartition("@")
        if user and host and ":" in user:
            return True
    return bool(TOKEN.search(text))


def power_of(name: str) -> str:
    """What a variable can do."""
    known = table().environment.get(name)
    if known is None and SECRET_WORDS & set(name.upper().split("_")):
        return SECRET
    return known or ("code" if LOADED.match(name) else UNKNOWN)


def variable_problem(name: str, value: str, allow: Collection[str]) -> str:
    """Why a variable is refused; empty when it is not."""
    if not NAME.fullmatch(name):
        return "is not a name of an environment variable"
    if set(value) & set("\0\r\n"):
        return "holds a line break or a zero byte"
    if len(value.encode()) > LONGEST:
        return f"is longer than a variable can be, {LONGEST} bytes"
    if holds_secret(value):
        return f"holds a password or a token; a secret does not belong into an environment, {IN_FILE}"
    power = power_of(name)
    if power == SECRET:
        return f"a secret does not belong into an environment, {IN_FILE}"
    if power == PLAIN or power in allow:
        return ""
    near = difflib.get_close_matches(name, table().environment, n=1, cutoff=0.8) if power == UNKNOWN else []
    if near:
        return f"unknown variable; did you mean {near[0]!r}?"
    return f"{POWERS[power]}: allow it with spec.vllm.allow: [{power}]"
