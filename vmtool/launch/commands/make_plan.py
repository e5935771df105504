"""From a spec to the plan of its launch, on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vmtool.facts.recording import RecordingReader
from vmtool.host.local import LocalMachine
from vmtool.launch.facts import read_launch
from vmtool.launch.pipeline import plan_launch
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.spec.load import read_spec
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import Again


def make_plan(machine: LocalMachine, state: State, path: Path, timeout: float | None) -> Plan:
    """The plan of what a file says."""
    return make_launch(machine, state, read_spec(path), timeout)


def make_launch(machine: LocalMachine, state: State, spec: Spec, timeout: float | None = None, *,
                again: Again = "") -> Plan:
    """Read the facts, and plan the launch."""
    reader = RecordingReader(machine, spec.secret_files)
    plan = plan_launch(*read_launch(reader, state, spec, timeout, again=again))
    return replace(plan, facts=reader.recorded())
