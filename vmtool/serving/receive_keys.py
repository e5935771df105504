"""Takes the API keys from stdin while the entrypoint waits for them.

    ctr task exec --exec-id ID CONTAINER python3 -m vmtool.serving.receive_keys FILE < KEYS

So the keys come into a guest only after somebody has looked at it, and by no file that the host shares with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vmtool.serving.encrypted.process import keep_memory


def main(words: Sequence[str]) -> int:
    """Write what stdin holds to FILE, at once: the entrypoint must not read half of it."""
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    keep_memory()
    data = sys.stdin.buffer.read()
    if not data.strip():
        print("no keys came on stdin", file=sys.stderr)
        return 1
    descriptor = os.open(f"{words[0]}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.rename(f"{words[0]}.new", words[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
