"""What a launch does about its network, alone: `python -m tests.integration.netattach attach|detach BOX NETWORK|-`.

With `-` the box gets a network of its own; prints the result's address.
"""

from __future__ import annotations

import sys

from vmtool.cli.output import Progress
from vmtool.engine import transactions
from vmtool.host.local import LocalMachine
from vmtool.net.check import NetworkRequest, wanted_network
from vmtool.net.cni_result import address_of
from vmtool.net.facts import read_network
from vmtool.net.network import result_path
from vmtool.net.plan import plan_attach, plan_network
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.spec.published_port import Publish

verb, box, name = sys.argv[1:4]
publish = tuple(map(Publish.parse, sys.argv[4:]))
state, owner = State.at(), f"instance {box}"
directory = state.instance(box)


def make() -> Plan:
    facts = read_network(LocalMachine(), state)
    request = NetworkRequest(box if name == "-" else name, box, f"vmtool-{box}", owner=owner, shared=name != "-",
                             publish=publish)
    network = wanted_network(facts, request)
    return Plan(owner, directory, (*plan_network(state, facts, network), plan_attach(
        state, facts, network, container_id=box, netns_name=request.netns_name, directory=directory / "net",
        publish=publish, owner=owner)))


if verb == "attach":
    transactions.run_transaction(state, directory, f"attach {box}", make, Progress())
    print(address_of(result_path(directory / "net").read_text()).ip, end="")
else:
    transactions.remove(state, directory, f"detach {box}", Progress())
