"""Signals while vmtool is at work."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable

import pytest

from vmtool.errors import Interrupted
from vmtool.host import signals


class Dying:
    """A signal comes while this is finalized, where Python drops what a handler raises."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def in_a_finalizer() -> None:
    Dying()


def taken_for_another_error() -> None:
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("lose", [in_a_finalizer, taken_for_another_error])
def test_a_signal_that_gets_lost_comes_again(lose: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: dropped.append(what.exc_type))
    monkeypatch.setattr(signals, "AGAIN", 0.01)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), signals.interrupting():
        lose()
        time.sleep(60)
    assert dropped == ([Interrupted] if lose is in_a_finalizer else [])


def test_whoever_goes_on_after_an_error_does_not_go_on_after_a_signal() -> None:
    went_on = False
    with pytest.raises(Interrupted), signals.interrupting():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            went_on = True
    assert not went_on


def test_nobody_is_interrupted_after_it_or_during_an_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "AGAIN", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), signals.interrupting():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            with signals.waiting():
                time.sleep(0.2)
    time.sleep(0.1)  # the handler of before would end this process
    assert signal.getsignal(signal.SIGTERM) is before
