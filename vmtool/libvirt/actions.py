"""Requests to vmtool's agent in a libvirt guest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.frozen import dataclass
from vmtool.libvirt import guest_agent
from vmtool.plan.action import Action

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class GuestRequest(Action):
    """Ask vmtool's agent in a libvirt guest, on the Unix socket of a virtio-serial port.

    Args:
        verb: "report", "network" (with the address and gateway of the CNI result in `source`), "serve" (with the API
            keys in `source`) or "stop".
        evidence: file that receives the answer.
        pidfile: of QEMU; when it ends the answer is not waited for.
        console: what the guest's kernel and systemd write; its last lines explain a failure.
        fleeting: a guest that ends before it has answered, or does not answer, is no failure.
        deadline: seconds; a guest that boots answers once it has booted.
    """

    channel: Path
    verb: str
    pidfile: Path
    console: Path
    source: Path | None = None
    evidence: Path | None = None
    fleeting: bool = False
    deadline: float = 30.0

    def shell(self) -> str:
        words = self.verb
        if self.verb == "network":
            words += f" $(jq -r '.ips[0] | \"\\(.address) \\(.gateway)\"' {shlex.quote(str(self.source))})"
        keys = f"sed '/^ *$/d' {shlex.quote(str(self.source))}; echo .; " if self.verb == "serve" else ""
        tests = ["said=$(cat)"]
        if not self.fleeting:  # socat that waited in vain is content
            tests.append("""printf '%s\\n' "$said" | tail -n 1 | grep -qx end""")
        if self.evidence:
            tests.append(f"""printf '%s\\n' "$said" | sed '$d' | """
                         f"install -m 0600 /dev/stdin {shlex.quote(str(self.evidence))}")
        tests.append("""! printf '%s\\n' "$said" | grep ^refused""")
        # Its own end of input must not become the channel's: QEMU would hang up.
        return (f'{{ echo "{words}"; {keys}}} | socat -t{self.deadline:g} - '
                f"UNIX-CONNECT:{shlex.quote(str(self.channel))},shut-none | tr -d '\\r' | {{ {' && '.join(tests)}; }}")

    def do(self, host: Host) -> None:
        guest_agent.ask(host, self)
