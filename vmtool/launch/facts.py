"""Everything that a launch must know about the host before it is planned, read in one go."""

from __future__ import annotations

from dataclasses import dataclass

from vmtool.facts.host import HostFacts, read_host
from vmtool.facts.model import ModelFacts, read_model
from vmtool.facts.reader import Reader
from vmtool.launch.instance import Instance, read_instance
from vmtool.spec import Spec
from vmtool.state import State


@dataclass(frozen=True)
class LaunchFacts:
    """What is there.

    Args:
        model: of a local model; None when the model comes from a hub.
        earlier: the instance of the same name, when there is one in whatever state.
    """

    host: HostFacts
    model: ModelFacts | None
    earlier: Instance | None


def read_launch(reader: Reader, state: State, spec: Spec) -> LaunchFacts:
    """Look at the host, the model and what an earlier launch left."""
    path = spec.spec.model.path
    confidential = spec.spec.runtime.handler != "runc"
    return LaunchFacts(
        host=read_host(reader, state.root, probe_kvm=confidential),
        model=read_model(reader, str(path)) if path else None,
        earlier=read_instance(state, spec.name) if state.instance(spec.name).is_dir() else None,
    )
