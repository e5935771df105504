"""A whole machine in memory that reacts as a real one does; see `tests.fakes.machine.machine.FakeMachine`."""

from tests.fakes.machine.machine import FakeMachine

__all__ = ["FakeMachine"]
