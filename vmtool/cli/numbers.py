"""Numbers of the command line: finite ones. What is no number (nan) lies within every range to click, and a time that
no clock can hold ends a command in its middle."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A finite number within a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As of any type of click's."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Seconds(Number):
    """At least so many seconds, and less than a year."""

    def __init__(self, min: float) -> None:
        super().__init__(min=min, max=31_536_000)
