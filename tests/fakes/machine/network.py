"""Network devices and namespaces, and `ip`, which shows and changes them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.machine.call import Call, done, failed
from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine

NETNS = "/run/netns"


@dataclass
class Link:
    """A network device.

    Args:
        kind: such as bridge or veth; empty when it is none of those.
        master: the bridge that it is a port of.
        addresses: in CIDR notation.
        peer: (namespace, name) of a veth's other end.
    """

    kind: str = ""
    master: str = ""
    addresses: list[str] = field(default_factory=list)
    up: bool = True
    peer: tuple[str, str] = ("", "")


@dataclass
class Links:
    """The devices of each namespace by name; the host's namespace is called ""."""

    machine: FakeMachine
    spaces: dict[str, dict[str, Link]]
    routes: list[dict[str, Any]]

    @classmethod
    def of(cls, machine: FakeMachine) -> Links:
        """What was recorded."""
        def recorded(*words: str) -> list[dict[str, Any]]:
            key = " ".join(("ip", "-j", *words))
            return [item for item in json.loads(machine.data["outputs"].get(key, {}).get("out") or "[]") if item]

        found = {"lo": Link(addresses=["127.0.0.1/8"])}
        bridges = [item.get("ifname") for item in recorded("link", "show", "type", "bridge")]
        for item in recorded("addr"):
            link = found.setdefault(item["ifname"], Link("bridge" if item["ifname"] in bridges else ""))
            link.master = item.get("master", link.master)
            link.addresses = [f"{one['local']}/{one['prefixlen']}" for one in item.get("addr_info", ())
                              if one["family"] == "inet"] or link.addresses
        spaces = {"": found, **{name: {"lo": Link(up=False)} for name in machine.tree.names(NETNS)}}
        return cls(machine, spaces, [item for item in recorded("route", "show", "table", "all")
                                     if item.get("protocol") != "kernel"])

    def seen(self) -> dict[str, Any]:
        return {f"{space}:{name}": link for space, links in self.spaces.items() for name, link in links.items()}

    def ports(self, bridge: str) -> list[str]:
        return [name for name, link in self.spaces[""].items() if link.master == bridge]

    def add(self, space: str, name: str, link: Link) -> None:
        self.spaces[space][name] = link
        self.machine.changed()

    def delete(self, space: str, name: str) -> None:
        """A device; of a pair the other end goes too, and a bridge's settings go with it."""
        link = self.spaces.get(space, {}).pop(name, None)
        if link is None:
            return
        for path in [path for path in self.machine.data["texts"] if f"/conf/{name}/" in path and not space]:
            del self.machine.data["texts"][path]
        self.spaces.get(link.peer[0], {}).pop(link.peer[1], None)
        self.machine.changed()

    def delete_space(self, name: str) -> None:
        """A namespace's name goes at once, what is in it a moment later."""
        links = self.spaces.pop(name)
        pairs = [link.peer for link in links.values() if link.kind == "veth"]

        def gone(machine: FakeMachine) -> None:
            for peer in pairs:
                machine.links.delete(*peer)

        self.machine.soon(gone)

    def objects(self, names: Iterator[str] | list[str]) -> str:
        """As `ip -j -d` shows them."""
        shown = [{"ifname": name, "flags": ["UP"] if link.up else [], "master": link.master,
                  "linkinfo": {"info_kind": link.kind}, "addr_info": [
                      {"family": "inet", "local": one.partition("/")[0], "prefixlen": int(one.partition("/")[2])}
                      for one in link.addresses]}
                 for name in names if (link := self.spaces[""][name])]
        return json.dumps([{key: value for key, value in item.items() if value not in ("", {"info_kind": ""})}
                           for item in shown])

    def all_routes(self) -> list[dict[str, Any]]:
        """Those that were recorded, and the kernel's own for each address."""
        own = [{"dst": str(ipaddress.ip_interface(address).network), "dev": name, "protocol": "kernel"}
               for name, link in self.spaces[""].items() for address in link.addresses]
        return [*self.routes, *own]


def ip(call: Call) -> Output:
    """iproute2, as far as vmtool asks it."""
    links, words = call.machine.links, call.words
    if words[0] == "-n":
        return _inside(links, words[1], words[2:])
    if words[0] == "netns":
        return _netns(call.machine, *words[1:])
    if words[0] == "-j":
        return _show(links, words)
    assert words[:3] in (("link", "delete", "dev"), ("neigh", "flush", "dev")), words
    name = words[3]
    if name not in links.spaces[""]:
        return failed(f'Cannot find device "{name}"')
    if words[0] == "link":
        for port in links.ports(name):
            links.spaces[""][port].master = ""
        links.delete("", name)
    return done()


def _show(links: Links, words: tuple[str, ...]) -> Output:
    """`ip -j ...`."""
    match words:
        case ("-j", "-d", "link", "show", "dev", name):
            return done(links.objects([name])) if name in links.spaces[""] else failed(
                f'Device "{name}" does not exist.')
        case ("-j", "link", "show", "master", name):
            return done(links.objects(links.ports(name))) if name in links.spaces[""] else failed(
                f'Device "{name}" does not exist.')
        case ("-j", "link", "show", "type", kind):
            return done(links.objects([name for name, link in links.spaces[""].items() if link.kind == kind]))
        case ("-j", "addr"):
            return done(links.objects(list(links.spaces[""])))
        case ("-j", "route", "show", "table", "all"):
            return done(json.dumps(links.all_routes()))
    raise AssertionError(f"this machine's ip knows no {words}")


def _inside(links: Links, space: str, words: tuple[str, ...]) -> Output:
    """`ip -n NETNS link set [dev] NAME up|down`."""
    if space not in links.spaces:
        return failed(f'Cannot open network namespace "{space}": No such file or directory', 255)
    name, state = words[-2:]
    if name not in links.spaces[space]:
        return failed(f'Cannot find device "{name}"')
    if links.spaces[space][name].up != (state == "up"):
        links.spaces[space][name].up = state == "up"
        links.machine.changed()
    return done()


def _netns(machine: FakeMachine, verb: str, name: str) -> Output:
    if verb == "identify":
        from tests.fakes.machine.containers import netns_of

        return done(f"{netns_of(machine, int(name))}\n")
    path = f"{NETNS}/{name}"
    there = machine.tree.find(path)
    if verb == "add":
        if there:
            return failed(f'Cannot create namespace file "/var{path}": File exists')
        machine.tree.make_dir(NETNS, 0o755, parents=0o755)
        machine.tree.write(path, b"", 0o000)
        machine.links.spaces[name] = {"lo": Link(up=False)}
        machine.tree.mounts.append(path)
        machine.changed()
        return done()
    if not there:
        return failed(f'Cannot remove namespace file "/var{path}": No such file or directory')
    if path in machine.tree.mounts:
        machine.tree.mounts.remove(path)
        machine.changed()
    if name in machine.links.spaces:
        machine.links.delete_space(name)
    machine.tree.unlink(path)
    return done()
