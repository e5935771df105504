"""The step that makes an endpoint's certificate ready."""

from __future__ import annotations

from ipaddress import ip_address

from vmtool import plan as p
from vmtool.endpoint.client import Server
from vmtool.instance.instance import Paths
from vmtool.net.network import result_path
from vmtool.paths import State
from vmtool.spec.runtime import Body
from vmtool.tls.workers import learn, prepare

OWN = ("localhost", "127.0.0.1", "::1")


def order_of(state: State, body: Body, paths: Paths, *, keeps: bool = False) -> prepare.Order:
    """What the worker is asked for."""
    tls = body.tls
    addresses = (port.host_ip for port in body.network.ports)
    published = tuple(each for each in addresses if not ip_address(each).is_unspecified)
    return prepare.Order(state.ca, paths.tls, (*tls.names, *OWN, *published), result_path(paths.network),
                         tls.certificate, tls.key, tls.clients, keeps, tls.in_guest)


def plan_certificate(state: State, body: Body, paths: Paths) -> p.Step:
    """Make it ready."""
    issued = body.tls.source == "ca" or body.tls.clients  # vmtool itself shows one of its CA to a front that asks
    titles = {"ca": "make the certificate ready: one of vmtool's CA", "guest": "have the endpoint make its own TLS key"}
    ready = p.run_worker(order_of(state, body, paths), deadline=60.0)
    return p.Step(titles.get(body.tls.source, f"make the certificate ready: one in {body.tls.certificate}"),
                  (*([p.MakeDir(state.ca)] if issued else []), ready), undo=(p.Remove(paths.tls),))


def plan_own_key(server: Server, paths: Paths, deadline: float) -> p.Step:
    """Learn the key that the endpoint has made: from now on vmtool knows it by that one."""
    order = learn.Order(server.host, server.port, server.result, paths.tls, paths.pidfile, paths.log, deadline)
    return p.Step("learn the TLS key that the endpoint has made", (
        p.run_worker(order, deadline=deadline + 10),), waits_only=True)
