"""What the tests of GPUs share: devices of the recorded machines."""

from __future__ import annotations

H100 = ("0000:18:00.0", "0000:2a:00.0", "0000:3a:00.0", "0000:5d:00.0", "0000:9a:00.0", "0000:ab:00.0", "0000:ba:00.0",
        "0000:db:00.0")
IDLE: dict[str, dict[str, object]] = {"names": {"/proc": None}}
CARD = tuple(f"0000:01:00.{function}" for function in range(4))
