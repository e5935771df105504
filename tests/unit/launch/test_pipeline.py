"""Spec and facts in, the plan's lines out; every problem told at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.recorded import Recorded
from tests.unit.launch.cases import MODEL, NETWORK, actions, asleep, facts, plan, wish
from vmtool.doctor.host import read_host
from vmtool.endpoint.actions import AskCanary, AwaitHealth
from vmtool.engine.journal import Entry, JournalState
from vmtool.errors import NotReady, Refused
from vmtool.findings import HANDLERS
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.launch.stages import LAUNCHERS
from vmtool.net.cni_facts import Plugins
from vmtool.net.facts import Listener
from vmtool.net.network import Network
from vmtool.plan import Plan, Remove, Run, plan_lines
from vmtool.spec.commands import EXAMPLES
from vmtool.stage.launch import as_launched, digest, earlier_digest
from vmtool.stage.timeouts import start_deadline


def test_the_table_of_contents() -> None:
    assert [line for line in plan_lines(plan()) if line.startswith("# ")] == [
        "# 1. write the instance's files",
        "# 2. containerd: start a private one",
        line_of("find the image docker.io/vmtool/x:latest (sha256:"),
        line_of("make the network a: "),
        "# 5. attach the network namespace vmtool-a to the network a",
        "# 6. start the container with runc",
        "# 7. verify what was started, before it gets the key",
        "# 8. hand over the key, which starts the server",
        "# 9. wait until the server is healthy, at most 122 s",
        "# 10. ask the canary and compare its answer",
        "# 11. verify what runs",
    ]


def test_every_handler_has_a_launcher_and_an_example() -> None:
    assert tuple(LAUNCHERS) == HANDLERS == tuple(EXAMPLES)


def test_the_metrics_are_published_beside_the_endpoint() -> None:
    made = plan(wish(metrics={"publish": "0.0.0.0:9100", "allow_from": ["10.0.0.0/8"], "names": ["tensafe"]}))
    lines = "\n".join(plan_lines(made))
    assert "--metrics-from 10.0.0.0/8 --metric-names tensafe" in start_of(made).shell()
    assert '"hostPort": 9100' in lines and '"containerPort": 9464' in lines
    other = plan(wish(network={"publish": ["8000:9464"]}, metrics={"publish": "9100"}))
    assert "--manage 0.0.0.0:9465" in start_of(other).shell()
    assert '"containerPort": 9465' in "\n".join(plan_lines(other))
    assert digest(wish(metrics={})) == digest(wish())
    for wrong in ({"publish": "0.0.0.0:9100"}, {"publish": "0"}, {"publish": "a:1"}, {"allow_from": ["x"]},
                  {"names": ["other"]}):
        with pytest.raises(ValueError):
            wish(metrics=wrong)


def test_the_way_back_works_after_a_restart_of_the_machine() -> None:
    assert asleep(plan()) == []


def start_of(made: Plan) -> Run:
    """What starts the container."""
    return plans.run(plans.step(made, "start the container").actions, "--detach")


def line_of(title: str) -> str:
    [line] = [line for line in plan_lines(plan()) if title in line and line.startswith("# ")]
    return line


def test_only_the_last_three_steps_wait() -> None:
    assert [step.waits_only for step in plan().steps] == [False] * 8 + [True] * 3


def test_the_systems_containerd_is_used_when_it_answers() -> None:
    host = facts().host
    answering = replace(host, containerd=replace(host.containerd, answers=True, snapshotters=("overlayfs",)))
    made = plan(host=answering)
    assert plans.step(made, "containerd").skip == "the system's answers on /run/containerd/containerd.sock"
    assert "--address /run/containerd/containerd.sock" in start_of(made).shell()


def test_the_canary_of_the_spec_goes_before_the_models_own() -> None:
    [own] = [action for action in actions(plan()) if isinstance(action, AskCanary)]
    assert (own.prompt, own.expect, own.match) == ("Why?", "So.", "exact")
    canary = {"prompt": "P", "expect": "E", "match": "contains"}
    [given] = [action for action in actions(plan(wish(canary=canary))) if isinstance(action, AskCanary)]
    assert (given.prompt, given.expect, given.match) == ("P", "E", "contains")


def test_without_a_canary_the_step_says_that_nothing_was_checked() -> None:
    made = plan(model=replace(MODEL, canary=None))
    assert plans.step(made, "ask the canary").skip.startswith("NOT CHECKED")


def test_a_server_for_this_host_lets_in_nobody_but_the_bridge() -> None:
    run = start_of(plan())
    network = next(action for action in actions(plan()) if "network.json" in action.shell())
    gateway = run.argv[run.argv.index("--allow-from") + 1]
    assert gateway.endswith(".1/32")
    assert gateway.removesuffix("1/32") in network.shell()
    assert "--allow-from" not in start_of(plan(wish(network={"publish": ["0.0.0.0:80:8000"]}))).shell()


def test_the_entrypoint_is_told_when_to_start_its_server_again() -> None:
    assert "--restart" not in start_of(plan()).shell()
    made = plan(wish(restart={"policy": "on-failure", "backoff": 2.5, "limit": 3}))
    assert "--restart on-failure --restart-backoff 2.5 --restart-limit 3" in start_of(made).shell()


def test_a_section_that_says_nothing_leaves_the_digest_as_it_was() -> None:
    """Else an instance of an earlier vmtool would be one of another spec."""
    assert digest(wish(restart={"policy": "always"})) == digest(wish())
    assert digest(wish(restart={"policy": "no"})) != digest(wish())
    before = wish(restart={"policy": "on-failure"})  # as an earlier vmtool kept a spec that said nothing
    assert (earlier_digest(before), earlier_digest(wish())) == (digest(wish()), digest(wish()))
    assert earlier_digest(wish(restart={"policy": "no"})) == digest(wish(restart={"policy": "no"})) != digest(before)
    assert as_launched(before, digest(wish())) == wish(), "it is kept as it was promised"
    assert as_launched(before, digest(before)) == before, "who has said so is believed"
    assert '"restart"' not in wish().model_dump_json(exclude={"spec": {"restart": True}})


def test_a_model_of_a_hub_gets_a_cache_and_names() -> None:
    made = plan(wish(model={"name": "m", "source": "huggingface", "repository": "o/r"}), model=None)
    text = start_of(made).shell()
    assert "--model o/r" in text
    assert "type=bind,src=/s/hub,dst=/models/hub,options=bind:rw" in text
    assert "src=/etc/resolv.conf" in text
    assert "HF_HOME=/models/hub" in text


def earlier(state: str, **changes: Any) -> Instance:
    record = InstanceRecord("a", digest(wish()), "runc", "none", "i", "m", "/c", True, "127.0.0.1", 8000, "/n", "/r", 1)
    replayed = JournalState(state="failed", entries=[Entry(0, "one", (Remove(Path("/1")),)), Entry(1, "two", (
        Remove(Path("/2")),))])
    return Instance("a", Paths(Path("/s/instances/a")), replace(record, **changes), state, None, replayed)


def test_a_running_instance_of_the_same_spec_is_left_alone() -> None:
    made = plan(earlier=earlier("running"))
    assert not made.changes


def test_a_running_instance_of_another_spec_is_refused() -> None:
    with pytest.raises(Refused, match="runs already, with another spec"):
        plan(earlier=earlier("running", digest="other"))


@pytest.mark.parametrize("state", ["stopped", "kept", "interrupted"])
def test_what_an_earlier_launch_left_is_cleared_newest_first(state: str) -> None:
    first, *_ = plan(earlier=earlier(state)).steps
    assert first.title == "clear what the earlier launch left"
    newest, oldest, *_ = first.actions
    assert (newest, oldest) == (Remove(Path("/2")), Remove(Path("/1")))
    assert first.undo == (newest, oldest), "killed in between, the rest is still known"


def test_every_problem_is_told_at_once() -> None:
    spec = wish(allow_unconfidential=False, resources={"memory": "64Ti", "cpus": 999},
                network={"publish": ["8000"], "subnet": "10.0.0.0/7"})
    busy = replace(NETWORK, listeners=(Listener("0.0.0.0", 8000),))
    with pytest.raises(Refused) as error:
        plan(spec, network=busy, model=replace(MODEL, files={}))
    told = "\n".join(error.value.details)
    for part in ("spec.allow_unconfidential", "/m is no directory", "MiB, but",
                 "spec.resources.cpus: 999", "10.0.0.0/7"):
        assert part in told


@pytest.mark.parametrize(("change", "message"), [
    ({"network": replace(NETWORK, plugins=Plugins())}, "CNI plugin"),
    ({"network": replace(NETWORK, iptables=False)}, "iptables is not installed"),
    ({"network": replace(NETWORK, listeners=(Listener("127.0.0.1", 8000),))}, "published port 127.0.0.1:8000:8000"),
])
def test_a_host_that_is_not_ready(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NotReady) as error:
        plan(**change)
    assert message in "\n".join(error.value.details)


@pytest.mark.parametrize(("change", "message"), [
    ({"architecture": ""}, "config.json is no JSON that names"),
    ({"files": {"config.json": 9}}, "holds no weights"),
    ({"unreadable": ("model.safetensors",)}, "chmod -R o+rX /m"),
])
def test_a_model_that_cannot_be_served(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as error:
        plan(model=replace(MODEL, **change))
    assert message in "\n".join(error.value.details)


def test_a_host_without_the_programs_is_told_so() -> None:
    bare = read_host(Recorded.load("old-bare"), "/s", guests=False)
    with pytest.raises(NotReady) as error:
        plan(host=bare)
    assert "apt-get install" in "\n".join(error.value.details)


def test_a_network_of_net_add_is_shared_and_stays() -> None:
    shared = Network("lab", "br0", "10.9.0.0/24")
    made = plan(wish(network={"name": "lab", "publish": ["8000"]}), network=replace(NETWORK, ours=(shared,)))
    assert plans.step(made, "make the network lab").skip
    assert not plans.step(made, "attach the network namespace vmtool-a to the network lab").skip


def test_deadlines_follow_memory_and_model() -> None:
    gib = 1 << 30
    assert start_deadline(2 * gib, gib, False) < start_deadline(2 * gib, 60 * gib, False)
    assert start_deadline(64 * gib, gib, False) < start_deadline(64 * gib, gib, True)
    [health] = [action for action in actions(plan(wish(timeouts={"start": 7}))) if isinstance(action, AwaitHealth)]
    assert health.deadline == 7
