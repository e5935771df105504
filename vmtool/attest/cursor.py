"""Reading a binary format piece by piece, never past its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmtool.attest.appraisal import NotProven


@dataclass
class Cursor:
    """A place in bytes.

    Args:
        what: they are, for messages.
        order: of the bytes in a number.
    """

    data: bytes
    what: str
    order: Literal["little", "big"] = "little"
    at: int = 0

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            NotProven: there are fewer.
        """
        if size > len(self.data) - self.at:
            raise NotProven(f"{self.what}: {size} bytes are missing at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, size: int) -> int:
        """The next bytes as an unsigned number."""
        return int.from_bytes(self.take(size), self.order)

    def left(self) -> int:
        """How many bytes follow."""
        return len(self.data) - self.at

    def end(self) -> None:
        """Nothing may follow.

        Raises:
            NotProven: something does.
        """
        if self.left():
            raise NotProven(f"{self.what}: {self.left()} bytes too many")


def require(holds: bool, reason: str) -> None:
    """Raise NotProven with the reason unless it holds."""
    if not holds:
        raise NotProven(reason)
