"""Counts what a peer sends on one connection: aiohttp bounds each header, but no whole head and no body's framing."""

from __future__ import annotations

from aiohttp import StreamReader

END = b"\r\n\r\n"
# What comes may be that many times the body: tiny chunks cost much time, chunk extensions and trailers have no end.
FRAMING = 2
# And so many bytes more, of a body that has just begun.
FIRST = 4 << 10


class Inflow:
    """The bytes of the head that comes, or of the request that is being answered.

    Args:
        most: bytes that a head may have.
    """

    __slots__ = ("after", "answering", "content", "head", "most", "tail")

    def __init__(self, most: int) -> None:
        self.most = most
        # Bytes of the head so far, and its last ones.
        self.head, self.tail = 0, b""
        # Since a head is complete: bytes that came after it, and the body that aiohttp makes of them.
        self.answering, self.after = False, 0
        self.content: StreamReader | None = None

    def begin(self, content: StreamReader) -> None:
        """A request is being answered."""
        self.answering, self.content = True, content

    def end(self) -> bool:
        """It is answered; whether its body has come, so that another head may follow."""
        done = self.content is None or self.content.is_eof()
        if done:
            self.answering, self.after, self.content, self.head = False, 0, None, 0
        return done

    def fits(self, data: bytes) -> bool:
        """Whether the bytes are within bounds; asked before they are parsed."""
        if self.answering and not (self.content and self.content.is_eof()):
            self.after += len(data)
            return True
        begun = data if self.tail else data.lstrip(b"\r\n")  # blank lines before a request are no head
        known = self.tail + begun
        at = known.find(END)
        if at >= 0 and not self.answering:
            size = self.head + at - len(self.tail)
            self.answering, self.after, self.head, self.tail = True, len(known) - at - len(END), 0, b""
            return size <= self.most
        # A head that is not complete, or what comes ahead of its turn.
        self.head += len(data)
        self.tail = known[-len(END) + 1:]
        return self.head <= self.most

    def framed(self) -> bool:
        """Whether the body has come of it that should; asked after the bytes are parsed.

        What the parser refuses within a body it would else refuse again with each further read, and keep.
        """
        if self.content is None:
            return self.after <= 4 * self.most
        return self.content.is_eof() or self.after <= FRAMING * self.content.total_bytes + min(
            self.most, FIRST)

    @property
    def ahead(self) -> bool:
        """Whether more has come than the request that is being answered."""
        return self.head > 0 or (
            self.content is not None and self.content.is_eof() and self.after > self.content.total_bytes)
