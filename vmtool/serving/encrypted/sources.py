"""Where the entrypoint has a model's master key from; whatever a source is, it yields the text of a key (JWK).

A source is asked once, before the engine starts, by the entrypoint alone. What it cannot give, it says why.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import MAX_KEY_FILE

# Beside the file with the API keys: in memory, and of this user alone.
HANDED = "model-key"


class KeySource(Protocol):
    """Yields the text of the master key; a source that asks somebody else may wait, and has deadlines of its own."""

    def read(self) -> Awaitable[bytes]:
        """The key.

        Raises:
            Untrusted: there is none, with what to do.
        """


@dataclass(frozen=True)
class HandedOver:
    """A file that `receive_keys` wrote, from a file or a pipe of the host; it is removed as soon as it was read."""

    path: Path

    async def read(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Untrusted(f"no key for the model came: {self.path}: {(error.strerror or '').lower()}") from None
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(MAX_KEY_FILE + 1)
        self.path.unlink()
        return text
