"""Waiting for a key in a thread."""

from __future__ import annotations

import asyncio

import pytest

from vmtool.serving.kbs.source import _beside


class Panic(BaseException):
    """As pyo3 raises one for a panic of a library in Rust."""


def test_whatever_ends_the_thread_ends_the_waiting() -> None:
    def panics() -> bytes:
        raise Panic

    async def wait() -> None:
        async with asyncio.timeout(20):
            await _beside(panics)

    with pytest.raises(Panic):
        asyncio.run(wait())
