"""Specs, facts and plans that the tests of launches share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fakes.launches import Found, launched
from tests.fakes.recorded import Recorded
from vmtool.doctor.host import read_host
from vmtool.engine.journal import JournalState
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.launch.pipeline import plan_launch
from vmtool.models.facts import ModelFacts
from vmtool.net.cni_facts import Plugins
from vmtool.net.facts import NetworkFacts
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.spec.runtime import Spec

STATE = State(Path("/s"))
PLUGINS = Plugins(directory="/usr/lib/cni", missing=(), versions=("0.4.0", "1.0.0"))
NETWORK = NetworkFacts(plugins=PLUGINS, iptables=True, links=(("lo", ""),))
MODEL = ModelFacts("/m", {"model.safetensors": 1 << 20, "config.json": 9,
                          "tokenizer.json": 2}, (), "LlamaForCausalLM", ("Why?", "So."))
CHAIN = "sha256:" + "c" * 64
RECORD = InstanceRecord("a", "d", "runc", "none", "image", "m", "/c.sock", True, "127.0.0.1", 8000,
                        "/var/run/netns/vmtool-a", "/i/a/net/result.json", 5000, image_digest="sha256:" + "d" * 64,
                        image_chain=CHAIN, image_origin="imported by vmtool")


def instance(directory: Path, state: str = "running", pid: int | None = 4242) -> Instance:
    """One with its files in that directory."""
    return Instance(directory.name, Paths(directory), RECORD, state, pid, JournalState(state="applied"))


def facts(**changes: Any) -> Found:
    host = read_host(Recorded.load("debian12-pvm"), "/s", guests=False)
    host = replace(changes.pop("host", host), network=changes.pop("network", NETWORK))
    return replace(Found(host=host, model=MODEL, earlier=None), **changes)


def wish(**changes: Any) -> Spec:
    body = {"runtime": {"handler": "runc"}, "allow_unconfidential": True, "image": "vmtool/x",
            "model": {"name": "m", "path": "/m"}, "resources": {"memory": "2Gi", "cpus": 1},
            "network": {"publish": ["8000"]}}
    return Spec.model_validate({"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "a"},
                                "spec": body | changes})


def plan(spec: Spec | None = None, **changes: Any) -> Plan:
    return plan_launch(*launched(STATE, spec or wish(), facts(**changes)))


def actions(made: Plan) -> list[Any]:
    return [action for step in made.steps for action in step.actions]


def asleep(made: Plan) -> list[str]:
    """Steps whose undo talks to the private containerd without starting it, which may have been killed since."""
    return [step.title for step in made.steps
            if "containerd.sock --namespace" in step_undo(step).partition("exec containerd")[0]]


def step_undo(step: Step) -> str:
    return "\n".join(action.shell() for action in step.undo)
