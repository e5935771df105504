"""Actions on container networks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.frozen import dataclass
from vmtool.net import chains, firewall_rules, plugin_exec
from vmtool.net.network import RECORD
from vmtool.plan.action import Action
from vmtool.plan.programs import Run, private_file

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class CallPlugin(Action):
    """Call one CNI plugin by the CNI protocol (github.com/containernetworking/cni, SPEC.md).

    Args:
        command: ADD, CHECK or DEL.
        plugin: path of the plugin's executable.
        config: file with this plugin's own configuration, name and cniVersion included.
        previous: file with the result of the plugin before it, merged in as `prevResult`; may be absent on DEL.
        result: file that receives the result of an ADD.
        retry_without_bridge: name of a bridge; when a first ADD fails because of its hardware address, the bridge is
            deleted and the ADD is tried once more (a known fault after an earlier failed ADD).
    """

    command: str
    plugin: Path
    config: Path
    container_id: str
    netns: Path
    ifname: str
    previous: Path | None = None
    result: Path | None = None
    retry_without_bridge: str = ""
    deadline: float = 30.0

    def shell(self) -> str:
        netns, path, plugin, config, previous, result = (shlex.quote(str(each)) for each in (
            self.netns, self.plugin.parent, self.plugin, self.config, self.previous, self.result))
        call = (f"CNI_COMMAND={self.command} CNI_CONTAINERID={shlex.quote(self.container_id)} CNI_NETNS={netns} "
                f"CNI_IFNAME={shlex.quote(self.ifname)} CNI_PATH={path} {plugin}")
        if not self.previous:
            line = f"{call} < {config}"
        elif self.command == "DEL":  # then it may be absent
            line = (f"cat {config} {previous} 2>/dev/null | "
                    f"jq -s '.[0] + if .[1] then {{prevResult: .[1]}} else {{}} end' | {call}")
        else:
            line = f"jq -s '.[0] + {{prevResult: .[1]}}' {config} {previous} | {call}"
        if self.command == "DEL":
            line = f"[ ! -e {config} ] || {line}"
        return f"{private_file(self.result)} {line} > {result}" if self.result else line

    def do(self, host: Host) -> None:
        plugin_exec.call(host, self)


@dataclass(frozen=True)
class RemoveBridge(Action):
    """Delete a network bridge, when it exists and has no port left."""

    name: str

    def shell(self) -> str:
        place = f"/sys/class/net/{self.name}"
        # The ports of a namespace that was deleted vanish a moment later.
        return (f"[ ! -e {place}/bridge ] || {{ timeout {plugin_exec.PORTS_GONE_WITHIN:.0f} "
                f"sh -c 'while [ -n \"$(ls {place}/brif)\" ]; do sleep 0.1; done' && "
                f"ip link delete dev {self.name} type bridge; }}")

    def do(self, host: Host) -> None:
        plugin_exec.remove_bridge(host, self.name)


@dataclass(frozen=True)
class RemoveChain(Action):
    """Remove one container's iptables chain, with the jumps to it; nothing when it is not there."""

    table: str
    chain: str

    def shell(self) -> str:
        iptables = f"iptables -w -t {self.table}"
        return (f"! {iptables} -S {self.chain} > /dev/null 2>&1 || {{ "
                f"{iptables} -S | sed -n 's/^-A \\(.* -j {self.chain}\\)$/-D \\1/p' | "
                f"while read -r rule; do eval \"{iptables} $rule\"; done; "
                f"{iptables} -F {self.chain}; {iptables} -X {self.chain}; }}")

    def do(self, host: Host) -> None:
        chains.remove(host, self.table, self.chain)


@dataclass(frozen=True)
class LeadPorts(Action):
    """Put the jump to a container's chain of published ports before all others: from then on new connections to these
    ports come to it, and those that are there stay where they are, since the kernel remembers them (conntrack)."""

    chain: str

    def shell(self) -> str:
        iptables = "iptables -w -t nat"
        return (f"rules=$({iptables} -S {chains.DNAT} | sed -n 's/^-A \\(.* -j {self.chain}\\)$/-I \\1/p' | tac) && "
                f"[ -n \"$rules\" ] && echo \"$rules\" | while read -r rule; do eval \"{iptables} $rule\"; done")

    def do(self, host: Host) -> None:
        chains.lead(host, self.chain)


@dataclass(frozen=True)
class RemoveGuard(Action):
    """Delete a rule that keeps others away from a network: as a part of an undo, only when all that it guards is gone.

    Args:
        argv: the whole command.
    """

    argv: tuple[str, ...]
    needs_undone = True

    def shell(self) -> str:
        return self._run.shell()

    def do(self, host: Host) -> None:
        self._run.do(host)

    @property
    def _run(self) -> Run:
        return Run(self.argv, absent_messages=firewall_rules.GONE)


@dataclass(frozen=True)
class RemoveSharedChains(Action):
    """Remove the chains that CNI's plugins make once per host and never remove, when they serve nobody any more.

    `marker` lists "TABLE CHAIN" lines, the chains that were absent before vmtool's first network; it goes as well.
    Nothing is done while another directory than `own` below `users` holds a network. A chain that existed before, or
    that holds a rule of anybody's, stays.
    """

    marker: Path
    users: Path
    own: str

    def shell(self) -> str:
        users, marker = shlex.quote(str(self.users)), shlex.quote(str(self.marker))
        own = shlex.quote(str(self.users / self.own / RECORD))
        others = f"$(ls {users}/*/{RECORD} 2>/dev/null | grep -vxF -e {own})"
        groups = "\n".join(chains.remove_group_shell(table, group, self.marker) for table, group in chains.GROUPS)
        return f'[ -n "{others}" ] || [ ! -e {marker} ] || {{\n{groups}\nrm -f {marker}; }}'

    def do(self, host: Host) -> None:
        chains.remove_shared(host, self.marker, self.users, self.own)
