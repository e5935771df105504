"""The host as the lint sees it."""

from __future__ import annotations

from vmtool.facts.reader import Reader
from vmtool.kata.facts import Target
from vmtool.kata.lint.subject import Host


def host_of(reader: Reader | None, target: Target, tee: dict[str, bool | None] | None = None) -> Host:
    """Memory and processors, and with a reader also the files; without one the configuration is another host's."""
    if reader is None:
        return Host()
    return Host(target.memory, target.cores, tee, reader.exists)
