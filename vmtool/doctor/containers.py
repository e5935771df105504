"""Findings on what starts containers: containerd, runc, CNI plugins, the network's addresses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from vmtool.doctor.host import HostFacts
from vmtool.errors import NotReady
from vmtool.findings import Finding, Handler, finding
from vmtool.net.cni_facts import PLUGINS
from vmtool.net.subnet import choose_subnet, network_or_none

# The oldest that vmtool was tried with is 1.6.20; ctr's options for seccomp and cgroups came with 1.5 and 1.6.
OLDEST = (1, 6)


def container_findings(facts: HostFacts, purpose: Handler) -> Iterator[Finding]:
    """containerd and its network; runc itself only where it is the runtime."""
    yield _installed(facts)
    if facts.containerd.binary:
        yield _age(facts)
        yield from _answers(facts)
    if purpose == "runc":
        runc = facts.runc
        yield finding("runc.installed", "runc", "ok" if runc.binary else "fail",
                      f"{runc.binary} {runc.version or 'of unknown version'}" if runc.binary else "not installed",
                      "apt-get install runc")
    yield _plugins(facts)
    yield from _network(facts)


def _installed(facts: HostFacts) -> Finding:
    found = facts.containerd
    programs = {"containerd": found.binary, "ctr": found.ctr, "containerd-shim-runc-v2": found.shim}
    lacking = [name for name, path in programs.items() if not path]
    return finding("containerd.installed", "containerd", "fail" if lacking else "ok",
                   f"not installed: {', '.join(lacking)}" if lacking
                   else f"{found.binary} {found.version or 'of unknown version'}",
                   "apt-get install containerd")


def _age(facts: HostFacts) -> Finding:
    version, title = facts.containerd.version, "containerd's version"
    numbers = [part for part in (version or "").split(".")[:2] if part.isdecimal()]
    if len(numbers) < 2:
        return finding("containerd.version", title, "not-checked", f"not understood: {version}", "containerd --version")
    old = tuple(map(int, numbers)) < OLDEST
    return finding("containerd.version", title, "warn" if old else "ok", str(version),
                   "install containerd 1.6 or newer: apt-get install containerd; older ones lack options of ctr")


def _answers(facts: HostFacts) -> Iterator[Finding]:
    """A system containerd that does not answer is no failure: vmtool can start a private one."""
    found, title = facts.containerd, "the system's containerd"
    if found.answers is None:
        yield finding("containerd.answers", title, "not-checked", f"this user may not ask on {found.address}",
                      "run as root: sudo vmtool doctor")
    elif not found.answers:
        yield finding("containerd.answers", title, "warn",
                      f"no answer on {found.address}; vmtool would start a private one",
                      "systemctl enable --now containerd, or leave it so")
    else:
        yield finding("containerd.answers", title, "ok", f"{found.server_version} answers on {found.address}")
        same = found.ctr_version == found.server_version
        yield finding("containerd.ctr", "ctr fits containerd", "ok" if same else "warn",
                      f"ctr {found.ctr_version}, containerd {found.server_version}",
                      "install both from one package, and restart: systemctl restart containerd")
        has = "overlayfs" in found.snapshotters
        yield finding("containerd.snapshotter", "overlayfs snapshotter", "ok" if has else "fail",
                      f"usable: {', '.join(found.snapshotters) or 'none'}",
                      f"ctr --address {found.address} plugins ls --detailed id==overlayfs shows why")


def _plugins(facts: HostFacts) -> Finding:
    plugins, title = facts.network.plugins, "CNI plugins"
    if plugins.missing:
        where = f"{plugins.directory} lacks" if plugins.directory else "not installed:"
        return finding("cni.plugins", title, "fail", f"{where} {', '.join(plugins.missing)}",
                       "apt-get install containernetworking-plugins")
    if not plugins.versions:
        return finding("cni.plugins", title, "not-checked", f"{plugins.directory} has them; their versions are unknown",
                       f"CNI_COMMAND=VERSION {plugins.directory}/bridge")
    return finding("cni.plugins", title, "ok",
                   f"{', '.join(PLUGINS)} in {plugins.directory}, CNI {plugins.versions[-1]}")


def _network(facts: HostFacts) -> Iterator[Finding]:
    network = facts.network
    # Every host has at least 127.0.0.1, so no address at all means that nobody could ask.
    if not network.addresses:
        yield finding("network.addresses", "free subnet", "not-checked", "`ip -j addr` gave no address",
                      "apt-get install iproute2")
    else:
        yield _subnet(facts)
    if network.iptables:
        yield finding("network.iptables", "iptables", "ok", "answers")
    elif not facts.is_root:
        yield finding("network.iptables", "iptables", "not-checked", "an ordinary user may not ask",
                      "run as root: sudo vmtool doctor")
    else:
        yield finding("network.iptables", "iptables", "fail", "does not answer; portmap and firewall need it",
                      "apt-get install iptables")
    if network.forward_policy == "DROP":
        yield finding("network.forward", "forwarding of packets", "warn",
                      "the filter table's FORWARD policy is DROP; published ports need a rule of their own",
                      # Before the first container there is no such chain; CNI's plugin keeps one that it finds.
                      "iptables -N CNI-ADMIN; iptables -I CNI-ADMIN -m conntrack --ctstate DNAT -j ACCEPT")


def _subnet(facts: HostFacts) -> Finding:
    """Whether `subnet: auto` finds a place, and whether those who are there already are in each other's way."""
    title = "free subnet"
    try:
        free = choose_subnet(facts.network)
    except NotReady as error:
        return finding("network.addresses", title, "fail", error.message, error.hint)
    claims = [(item.path, network) for item in facts.network.conflists for subnet in item.subnets
              if (network := network_or_none(subnet))]
    for (path, one), (other_path, other) in combinations(claims, 2):
        if path != other_path and one.overlaps(other):
            return finding("network.addresses", title, "warn", f"{one} of {path} overlaps {other} of {other_path}",
                           f"change the subnet in {other_path}; vmtool itself would take {free}")
    return finding("network.addresses", title, "ok", f"such as {free}")
