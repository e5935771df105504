"""The front alone, with other limits than its own.

    python -m tests.integration.serving.run_front SOCKET PORT MANAGE_PORT LIMITS_AS_JSON LIST [NETWORK]

LIST is a file with further lines of who may ask, or "-".
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable
from pathlib import Path

from vmtool.serving import front as f
from vmtool.serving import turns
from vmtool.serving.access_list import digest_of, parse
from vmtool.serving.entrypoint import say
from vmtool.serving.evidence.collect import collect
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.listening import listening_socket

KEY, OTHER, MANAGER, SCRAPER = "k" * 32, "o" * 32, "m" * 32, "s" * 32
MANAGERS_LINE = "".join(f"{name} sha256:{digest_of(key.encode()).hex()}\n"
                        for name, key in (("manager", MANAGER), ("scraper", SCRAPER)))


async def run(socket: str, port: str, manage_port: str, limits: str, more: str, *networks: str,
              ask_guest: Callable[[bytes], Collected | None] = collect) -> None:
    """Serve until killed."""
    fitted = f.fitting(f.Limits(**json.loads(limits)))
    lines = "" if more == "-" else Path(more).read_text()
    access = parse(f"{KEY}\n{OTHER}\n{MANAGERS_LINE}{lines}".encode(), "the test's list")
    front = f.Front(f.Engine(Path(socket), fitted.buffered), access, limits=fitted, log=say, metric_names=("tensafe",),
                    allow_from=map(ipaddress.ip_network, networks), ask_guest=ask_guest)
    host = ipaddress.ip_network("127.0.0.1/32")
    await f.serve(front, listening_socket(("127.0.0.1", int(port))), say, f.Manage(front, access, (host,), say=say),
                  listening_socket(("127.0.0.1", int(manage_port))))


if __name__ == "__main__":
    turns.run(run(*sys.argv[1:]))
