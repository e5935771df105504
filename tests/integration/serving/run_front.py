"""The front alone, with other limits than its own.

    python -m tests.integration.serving.run_front SOCKET PORT LIMITS_AS_JSON [NETWORK]
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys
from pathlib import Path

from vmtool.serving import front as f
from vmtool.serving.entrypoint import listen, say

KEY, OTHER = "k" * 32, "o" * 32


async def run(socket: str, port: str, limits: str, *networks: str) -> None:
    """Serve until killed."""
    fitted = f.fitting(f.Limits(**json.loads(limits)))
    front = f.Front(f.Engine(Path(socket), fitted.buffered), (KEY.encode(), OTHER.encode()), limits=fitted, log=say,
                    allow_from=map(ipaddress.ip_network, networks))
    await f.serve(front, listen(("127.0.0.1", int(port))), say)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
