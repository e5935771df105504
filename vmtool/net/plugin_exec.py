"""Calling CNI plugins (github.com/containernetworking/cni, SPEC.md) and removing the bridges that they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmtool.errors import NotReady, ProgramFailed, VmtoolError
from vmtool.foreign import parse_json
from vmtool.machine import Host, Output, check

if TYPE_CHECKING:
    from vmtool.net.actions import CallPlugin

LIMIT = 1 << 20
# Seconds. The kernel removes what was in deleted namespaces in one queue for the whole machine (cleanup_net in
# net/core/net_namespace.c); only a refusal takes all of them.
PORTS_GONE_WITHIN = 10.0
# What a plugin says, and what a person can do about it.
HINTS = (
    ("already has an IP address different from", "choose another bridge: vmtool net add NAME --bridge OTHER"),
    ("no IP addresses available in range set", "vmtool net reset NAME collects stale leases; or take a larger subnet"),
    ("duplicate allocation is not allowed", "vmtool recover, or vmtool net reset NAME"),
    ("failed to find plugin", "apt-get install containernetworking-plugins"),
    ("failed to locate iptables", "apt-get install iptables"),
    ("incompatible CNI versions", "the plugins were exchanged: vmtool net reset NAME"),
)


def call(host: Host, action: CallPlugin) -> None:
    """Call a plugin; the result of an ADD is written to `action.result`.

    Raises:
        VmtoolError: the plugin failed; the message has its name, code and words.
    """
    if action.command == "DEL" and not host.exists(str(action.config)):
        return  # The configuration is written before the first ADD, so there was none.
    config = _config(host, action)
    output = _exec(host, action, config)
    if output.status and action.retry_without_bridge and "could not set bridge's mac" in output.out:
        # An ADD that fails early leaves a bridge with a zero address, which no later ADD can use.
        remove_bridge(host, action.retry_without_bridge)
        output = _exec(host, action, config)
    if output.status and action.command == "DEL":
        # After a failed ADD a DEL may answer 999 although it did its work (CNI 1.0, DEL must be repeatable).
        output = _exec(host, action, config)
    if output.status:
        raise _failure(action, output)
    if action.result:
        host.write(action.result, _result(action, output.out))


def remove_bridge(host: Host, name: str) -> None:
    """Delete a bridge when it exists.

    Raises:
        VmtoolError: something is still plugged into it. The ports of a deleted namespace vanish a moment later, hence
            a short wait; any other port is somebody's.
    """
    link = host.execute(("ip", "-j", "-d", "link", "show", "dev", name), deadline=10.0)
    if link.status or not any(item.get("linkinfo", {}).get("info_kind") == "bridge" for item in _objects(link.out)):
        return
    end = host.now() + PORTS_GONE_WITHIN
    while ports := _ports(host, name):
        if host.now() > end:
            raise VmtoolError(f"the bridge {name} is still used by {', '.join(ports)}, so it is not removed",
                              hint=f"ip link show master {name}")
        host.sleep(0.05)
    argv = ("ip", "link", "delete", "dev", name, "type", "bridge")
    check(argv, host.execute(argv, deadline=30.0))


def _ports(host: Host, bridge: str) -> list[str]:
    output = host.execute(("ip", "-j", "link", "show", "master", bridge), deadline=10.0)
    return [str(item["ifname"]) for item in _objects(output.out) if "ifname" in item]


def _objects(text: str) -> list[dict[str, Any]]:
    """The objects that iproute2 prints; for an empty list it may print nothing."""
    try:
        found = parse_json(text)
    except ValueError:
        return []
    return [item for item in found if isinstance(item, dict)]


def _config(host: Host, action: CallPlugin) -> bytes:
    """The plugin's configuration with the previous result merged in."""
    config = _object(host, action.config)
    if action.previous and (host.exists(str(action.previous)) or action.command != "DEL"):
        config["prevResult"] = _object(host, action.previous)
    return json.dumps(config).encode()


def _object(host: Host, path: Path) -> dict[str, Any]:
    try:
        values = parse_json(host.read(path))
    except (OSError, ValueError) as error:
        raise VmtoolError(f"{path} cannot be read: {error}", hint="vmtool net reset NAME writes it again") from error
    if not isinstance(values, dict):
        raise VmtoolError(f"{path} is not a JSON object")
    return values


def _exec(host: Host, action: CallPlugin, config: bytes) -> Output:
    if not host.exists(str(action.plugin)):
        raise NotReady(f"the CNI plugin {action.plugin} is not installed",
                       hint="apt-get install containernetworking-plugins")
    env = (("CNI_COMMAND", action.command), ("CNI_CONTAINERID", action.container_id),
           ("CNI_NETNS", str(action.netns)), ("CNI_IFNAME", action.ifname), ("CNI_PATH", str(action.plugin.parent)))
    host.log(f"$ {action.shell()}\n")
    return host.execute((str(action.plugin),), deadline=action.deadline, env=env, stdin=config)


def _result(action: CallPlugin, text: str) -> str:
    """The result, when it is one that the next plugin and a launch can use."""
    try:
        result = parse_json(text[:LIMIT])
        if result["cniVersion"] and result["ips"]:
            return json.dumps(result, indent=2) + "\n"
    except (ValueError, KeyError, TypeError):
        pass
    raise ProgramFailed(f"the CNI plugin {action.plugin.name} gave no address on {action.command}",
                        details=text[:400].splitlines()[-8:])


def _failure(action: CallPlugin, output: Output) -> VmtoolError:
    """The plugin's own error object in words; a plugin that died gives none."""
    name = f"the CNI plugin {action.plugin.name} failed on {action.command} for {action.container_id}"
    try:
        said = parse_json(output.out[:LIMIT])
        text, code = str(said["msg"]), int(said.get("code", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        lines = (output.out + "\n" + output.err)[-2000:].strip().splitlines()
        how = f"signal {-output.status}" if output.status < 0 else f"exit status {output.status}"
        return ProgramFailed(f"{name}: {how}", details=lines[-8:])
    hint = next((hint for words, hint in HINTS if words in text), "")
    details = str(said.get("details") or "").splitlines()[:8]
    return ProgramFailed(f"{name}: {text[:1000]} (code {code})", details=details, hint=hint)
