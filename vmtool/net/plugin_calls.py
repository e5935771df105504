"""The calls of an attachment's CNI plugins, in order; a result travels to the next one in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmtool import plan as p
from vmtool.frozen import dataclass
from vmtool.net.actions import CallPlugin
from vmtool.net.network import result_path

IFNAME = "eth0"


@dataclass(frozen=True)
class Calls:
    """What is to be called for one attachment.

    Args:
        plugins: the plugins' directory.
        directory: of the attachment; NAME.json is a plugin's configuration, NAME.result.json its answer to ADD.
        bridge: deleted once when it is the reason that the first ADD fails.
    """

    plugins: Path
    container_id: str
    netns: Path
    directory: Path
    bridge: str

    def action(self, command: str, name: str, *, previous: Path | None, result: Path | None = None) -> CallPlugin:
        """One call."""
        retried = self.bridge if (command, name) == ("ADD", "bridge") else ""
        return CallPlugin(command, self.plugins / name, self.directory / f"{name}.json", self.container_id,
                            self.netns, IFNAME, previous, result, retry_without_bridge=retried)

    def add(self, names: Sequence[str]) -> list[p.Action]:
        """ADD of each plugin; the last one's answer is the attachment's result."""
        results = [*(self.directory / f"{name}.result.json" for name in names[:-1]), result_path(self.directory)]
        return [self.action("ADD", name, previous=results[number - 1] if number else None, result=results[number])
                for number, name in enumerate(names)]

    def publish(self, name: str) -> CallPlugin:
        """ADD of the plugin that publishes ports, once the others have had theirs; it adds nothing to the result."""
        return self.action("ADD", name, previous=result_path(self.directory),
                           result=self.directory / f"{name}.result.json")

    def delete(self, names: Sequence[str]) -> list[p.Action]:
        """DEL of each plugin, in reverse."""
        # The first plugin's result has all that the others need, and is there when a later one was cut short.
        previous = self.directory / f"{names[0]}.result.json"
        return [self.action("DEL", name, previous=previous) for name in reversed(names)]
