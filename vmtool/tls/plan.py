"""The step that makes an endpoint's certificate ready."""

from __future__ import annotations

from ipaddress import ip_address

from vmtool import plan as p
from vmtool.instance.instance import Paths
from vmtool.net.network import result_path
from vmtool.paths import State
from vmtool.spec.runtime import Body
from vmtool.tls.workers import prepare

OWN = ("localhost", "127.0.0.1", "::1")


def order_of(state: State, body: Body, paths: Paths, *, keeps: bool = False) -> prepare.Order:
    """What the worker is asked for."""
    tls = body.tls
    addresses = (port.host_ip for port in body.network.ports)
    published = tuple(each for each in addresses if not ip_address(each).is_unspecified)
    return prepare.Order(state.ca, paths.tls, (*tls.names, *OWN, *published), result_path(paths.network),
                         tls.certificate, tls.key, tls.clients, keeps)


def plan_certificate(state: State, body: Body, paths: Paths) -> p.Step:
    """Make it ready."""
    what = "of vmtool's CA" if body.tls.source == "ca" else f"in {body.tls.certificate}"
    return p.Step(f"make the certificate ready: one {what}", (
        p.MakeDir(state.ca), p.run_worker(order_of(state, body, paths), deadline=60.0)), undo=(p.Remove(paths.tls),))
