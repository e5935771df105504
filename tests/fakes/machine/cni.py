"""CNI's plugins 1.1.1 by the CNI protocol: bridge with host-local's leases in files, portmap, firewall."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha512
from typing import Any

from tests.fakes.machine.call import Call, done
from tests.fakes.machine.network import NETNS, Link
from tests.fakes.machine.tree import plain
from vmtool.machine import Output

MARK = ("-m", "mark", "--mark", "0x2000/0x2000")


@dataclass(frozen=True)
class Cni:
    """One call."""

    call: Call
    config: dict[str, Any]

    @property
    def id(self) -> str:
        return self.call.env["CNI_CONTAINERID"]

    @property
    def ifname(self) -> str:
        return self.call.env["CNI_IFNAME"]

    @property
    def space(self) -> str:
        """The namespace's name."""
        return plain(self.call.env["CNI_NETNS"]).removeprefix(f"{NETNS}/")

    @property
    def chain(self) -> str:
        return sha512(f"{self.config['name']}{self.id}".encode()).hexdigest()

    @property
    def comment(self) -> str:
        return f'name: "{self.config["name"]}" id: "{self.id}"'

    @property
    def address(self) -> str:
        """The address of the container, as the result before tells it; empty when there is none."""
        before = self.config.get("prevResult") or {}
        return str(before["ips"][0]["address"]) if before.get("ips") else ""


def plugin(call: Call) -> Output:
    """Any of them; a failure is told as CNI defines."""
    cni = Cni(call, json.loads(call.stdin))
    verbs: dict[tuple[str, str], Callable[[Cni], str]] = {
        ("bridge", "ADD"): _bridge_add, ("bridge", "DEL"): _bridge_del, ("bridge", "CHECK"): _check,
        ("portmap", "ADD"): _portmap_add, ("portmap", "DEL"): _portmap_del, ("firewall", "CHECK"): _check,
        ("firewall", "ADD"): _firewall_add, ("firewall", "DEL"): _firewall_del}
    try:
        return done(verbs[call.name, call.env["CNI_COMMAND"]](cni))
    except LookupError as error:
        said = error.args[0]
        return Output(1, json.dumps({"cniVersion": cni.config["cniVersion"], "code": 999, "msg": said}), "")


def _open(cni: Cni) -> dict[str, Link]:
    links = cni.call.machine.links
    if cni.space not in links.spaces:
        raise LookupError(f'failed to open netns "{cni.call.env["CNI_NETNS"]}": no such file or directory')
    return links.spaces[cni.space]


def _check(cni: Cni) -> str:
    if cni.ifname not in _open(cni):
        raise LookupError(f"Link not found: {cni.ifname}")
    return ""


def _bridge_add(cni: Cni) -> str:
    machine, bridge = cni.call.machine, cni.config["bridge"]
    links = machine.links
    if bridge not in links.spaces[""]:
        links.add("", bridge, Link("bridge"))
    inside = _open(cni)
    if cni.ifname in inside:
        raise LookupError(f"container veth name provided ({cni.ifname}) already exists")
    pair = f"veth{cni.chain[:8]}"
    inside[cni.ifname] = Link("veth", peer=("", pair))
    links.add("", pair, Link("veth", bridge, peer=(cni.space, cni.ifname)))
    address, gateway = _lease(cni)
    inside[cni.ifname].addresses = [address]
    if gateway not in links.spaces[""][bridge].addresses:
        links.spaces[""][bridge].addresses.append(gateway)
        machine.changed()
    machine.data["texts"]["/proc/sys/net/ipv4/ip_forward"] = "1\n"
    if cni.config.get("ipMasq"):
        _masquerade(cni, address)
    return json.dumps({"cniVersion": cni.config["cniVersion"], "interfaces": [{"name": bridge}], "ips": [
        {"address": address, "gateway": gateway.partition("/")[0], "interface": 2}]})


def _lease(cni: Cni) -> tuple[str, str]:
    """host-local: a file per address, the container's id and interface in it."""
    tree, ipam = cni.call.machine.tree, cni.config["ipam"]
    network = ipaddress.IPv4Network(ipam["ranges"][0][0]["subnet"] if "ranges" in ipam else ipam["subnet"])
    place = f"{ipam['dataDir']}/{cni.config['name']}"
    tree.make_dir(place, 0o755, parents=0o755)
    tree.overwrite(f"{place}/lock", b"", 0o644)
    mine = f"{cni.id}\n{cni.ifname}".encode()
    for name in tree.names(place):
        if name[:1].isdigit() and tree.read(f"{place}/{name}") == mine:
            raise LookupError(f"failed to allocate for range 0: {name} has been allocated to {cni.id}, duplicate "
                              "allocation is not allowed")
    free = next((str(host) for host in list(network.hosts())[1:] if not tree.find(f"{place}/{host}")), None)
    if free is None:
        raise LookupError("failed to allocate for range 0: no IP addresses available in range set")
    tree.write(f"{place}/{free}", mine)
    tree.overwrite(f"{place}/last_reserved_ip.0", free.encode(), 0o644)
    return f"{free}/{network.prefixlen}", f"{network[1]}/{network.prefixlen}"


def _masquerade(cni: Cni, address: str) -> None:
    tables, chain, comment = cni.call.machine.tables, f"CNI-{cni.chain}"[:28], ("-m", "comment", "--comment",
                                                                               cni.comment)
    network = str(ipaddress.ip_interface(address).network)
    tables.make("nat", chain)
    tables.add("nat", chain, "-d", network, *comment, "-j", "ACCEPT")
    tables.add("nat", chain, "!", "-d", "224.0.0.0/4", *comment, "-j", "MASQUERADE")
    tables.add("nat", "POSTROUTING", "-s", address.partition("/")[0], *comment, "-j", chain)


def _bridge_del(cni: Cni) -> str:
    """The lease first. Without the namespace it is done then, and forgets the chain."""
    machine, ipam = cni.call.machine, cni.config["ipam"]
    place = f"{ipam['dataDir']}/{cni.config['name']}"
    # host-local opens its directory, and so makes it.
    machine.tree.make_dir(place, 0o755, parents=0o755)
    machine.tree.overwrite(f"{place}/lock", b"", 0o644)
    mine = f"{cni.id}\n{cni.ifname}".encode()
    for name in machine.tree.names(place):
        if name[:1].isdigit() and machine.tree.read(f"{place}/{name}") == mine:
            machine.tree.unlink(f"{place}/{name}")
    if cni.space not in machine.links.spaces:
        return ""
    there = machine.links.spaces[cni.space].get(cni.ifname)
    if there:
        machine.links.delete(cni.space, cni.ifname)
        if there.addresses and cni.config.get("ipMasq"):
            machine.tables.remove("nat", f"CNI-{cni.chain}"[:28])
    return ""


def _portmap_add(cni: Cni) -> str:
    tables, inside = cni.call.machine.tables, ipaddress.ip_interface(cni.address)
    tables.make("nat", "CNI-HOSTPORT-SETMARK")
    tables.add("nat", "CNI-HOSTPORT-SETMARK", "-m", "comment", "--comment", "CNI portfwd masquerade mark", "-j", "MARK",
               "--set-xmark", "0x2000/0x2000")
    tables.make("nat", "CNI-HOSTPORT-MASQ")
    tables.add("nat", "CNI-HOSTPORT-MASQ", *MARK, "-j", "MASQUERADE")
    tables.add("nat", "POSTROUTING", "-m", "comment", "--comment", "CNI portfwd requiring masquerade", "-j",
               "CNI-HOSTPORT-MASQ", first=True)
    tables.make("nat", "CNI-HOSTPORT-DNAT")
    for chain in ("PREROUTING", "OUTPUT"):
        tables.add("nat", chain, "-m", "addrtype", "--dst-type", "LOCAL", "-j", "CNI-HOSTPORT-DNAT")
    own = f"CNI-DN-{cni.chain}"[:28]
    tables.make("nat", own)
    for port in cni.config["runtimeConfig"]["portMappings"]:
        where = ("-d", port["hostIP"]) if port["hostIP"] != "0.0.0.0" else ()
        what = ("-p", port["protocol"], "-m", port["protocol"], "--dport", str(port["hostPort"]))
        for source in (str(inside.network), "127.0.0.1"):
            tables.add("nat", own, "-s", source, *where, *what, "-j", "CNI-HOSTPORT-SETMARK")
        tables.add("nat", own, *where, *what, "-j", "DNAT", "--to-destination",
                   f"{inside.ip}:{port['containerPort']}")
        tables.add("nat", "CNI-HOSTPORT-DNAT", "-p", port["protocol"], "-m", "comment", "--comment",
                   f"dnat {cni.comment}", "-m", "multiport", "--dports", str(port["hostPort"]), "-j", own)
    bridge = cni.config["prevResult"]["interfaces"][0]["name"]
    cni.call.machine.data["texts"][f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet"] = "1\n"
    return json.dumps(cni.config["prevResult"])


def _portmap_del(cni: Cni) -> str:
    cni.call.machine.tables.remove("nat", f"CNI-DN-{cni.chain}"[:28])
    return ""


def _firewall_add(cni: Cni) -> str:
    tables, address = cni.call.machine.tables, cni.address.partition("/")[0]
    tables.make("filter", "CNI-ADMIN")
    tables.make("filter", "CNI-FORWARD")
    tables.add("filter", "FORWARD", "-m", "comment", "--comment", "CNI firewall plugin rules", "-j", "CNI-FORWARD",
               first=True)
    tables.add("filter", "CNI-FORWARD", "-m", "comment", "--comment", "CNI firewall plugin admin overrides", "-j",
               "CNI-ADMIN", first=True)
    tables.add("filter", "CNI-FORWARD", "-d", address, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j",
               "ACCEPT")
    tables.add("filter", "CNI-FORWARD", "-s", address, "-j", "ACCEPT")
    return json.dumps(cni.config["prevResult"])


def _firewall_del(cni: Cni) -> str:
    tables, address = cni.call.machine.tables, cni.address.partition("/")[0]
    if address:
        tables.drop("filter", "CNI-FORWARD", "-d", address, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED",
                    "-j", "ACCEPT")
        tables.drop("filter", "CNI-FORWARD", "-s", address, "-j", "ACCEPT")
    return ""
