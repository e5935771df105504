"""The worker that makes a certificate ready: what it makes is told by what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fakes.machine.builders import make
from tests.fakes.machine.call import Call, Program, done
from vmtool.machine import Output


def prepare(call: Call) -> Output:
    """The CA, when there is none; then the instance's files."""
    order, tree = call.order, call.machine.tree
    if order["in_guest"]:
        tree.make_dir(order["directory"])
        make(call, f"{order['directory']}/own-key", mode=0o600)
        return done()
    for name in ("ca.key", "ca.pem"):
        if not call.machine.exists(f"{order['ca']}/{name}"):
            make(call, f"{order['ca']}/{name}", mode=0o600)
    tree.make_dir(order["directory"])
    for name in ("trusted.pem", "public.pem", "key.pem", "certificate.pem"):
        make(call, f"{order['directory']}/{name}", f"{order['ca']}/ca.pem", mode=0o600, what=repr(order["names"]))
    return done()


def learn(call: Call) -> Output:
    """The key of the container that runs."""
    for name in ("trusted.pem", "public.pem"):
        make(call, f"{call.order['directory']}/{name}", mode=0o600, what="shown")
    return done()


WORKERS: Mapping[str, Program] = {"tls.prepare": prepare, "tls.learn": learn}
