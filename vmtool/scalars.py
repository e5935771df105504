"""YAML's plain scalars, read only where every reader reads the same: what else looks like a number is refused.

YAML 1.1, which PyYAML reads, and YAML 1.2 disagree about `010`, `1:30`, `yes`, `1e3` and `2024-01-02`. A person who
leaves out the quotes means the text.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

import yaml

from vmtool.frozen import dataclass

TAG = "tag:yaml.org,2002:"
TEXT, MERGE = f"{TAG}str", f"{TAG}merge"
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
WHAT = {bool: "bool", type(None): "null", int: "int", float: "float"}
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,15})\.[0-9]{1,16}")
# Whatever is a number to YAML 1.2's core schema, or to Go's readers; YAML 1.1's is the tag that PyYAML gives.
NUMBER = re.compile(r"[-+]?(?:(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|"
                    r"0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[bB][01_]+)")
# YAML 1.1 calls them true and false, as Go's readers do; PyYAML does not.
LETTERS = {"y": True, "Y": True, "n": False, "N": False}
READ_AS = {"int": "a number", "float": "a number", "bool": "true or false", "timestamp": "a date", "null": "nothing",
           "value": "a value of its own", "merge": "a word of its own"}


@dataclass(frozen=True)
class Ambiguity:
    """A scalar that is read as different values, or as another one than its writer means.

    Args:
        reading: what it is read as, in words.
        plain: the same value, written so that every reader reads it; empty where there is none.
    """

    text: str
    reading: str
    plain: str = ""

    def __str__(self) -> str:
        """With what to write where it is not known what the key takes, or where it takes text and more."""
        return self.as_text() + (f", or write {self.plain}" if self._word else "")

    def as_text(self) -> str:
        """What to write where the key takes text."""
        return f"{self.is_read}: put it in quotes, {quoted(self.text[:40])}"

    def as_value(self, wanted: str) -> str:
        """What to write where the key takes something else, such as "a number"."""
        fits = self._word == (wanted == "true or false") and not ("." in self.plain and wanted == "a whole number")
        return f"{self.is_read}: write {self.plain if fits and self.plain else wanted}"

    @property
    def _word(self) -> bool:
        return self.plain in ("true", "false", "null")

    @property
    def is_read(self) -> str:
        """The first half of a message."""
        return f"{self.text[:40]} is read as {self.reading}" + (
            f", {self.plain[:30]}" if self.plain not in ("", self.text) else "")


def scalar(node: yaml.ScalarNode) -> tuple[Any, str | Ambiguity]:
    """The value of a scalar, and what is wrong with how it is written; empty when nothing is."""
    text, kind = node.value, node.tag.removeprefix(TAG)
    if not is_text(text):
        return text.encode(errors="replace").decode(), "holds half of a character (a surrogate), which is no text"
    if kind not in READ_AS and node.tag not in (TEXT, TAG):
        return text, f"the tag {node.tag.replace(TAG, '!!')[:40]} is not understood"
    found = _plain(text) if node.style is None else text
    if WHAT.get(type(found)) == kind or node.tag == TAG:
        return found, ""
    # What is no text by itself has its tag, !!str, from whoever wrote it.
    if node.tag == TEXT and (node.style is not None or found != text or not (
            text in LETTERS or NUMBER.fullmatch(text))):
        return text, ""
    return text, _ambiguous(text, kind)


def is_text(text: str) -> bool:
    """Whether it can be written at all: YAML's escapes can name halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def quoted(text: str) -> str:
    """A text as YAML writes it in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(text: str) -> Any:
    """The value of a scalar that every reader reads the same; else its text."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if DECIMAL.fullmatch(text) else text


def _ambiguous(text: str, kind: str) -> Ambiguity:
    # What looks like a number in YAML 1.2 only is a text here.
    reading = "true or false by other readers of YAML" if text in LETTERS else READ_AS.get(
        kind, "a number by other readers of YAML")
    value = LETTERS.get(text, _by_others(text, kind))
    if isinstance(value, bool) or kind == "null":
        return Ambiguity(text, reading, str(value).lower() if isinstance(value, bool) else "null")
    plain = "" if value is None else f"{value:.0f}" if value == int(value) else repr(value)
    return Ambiguity(text, reading, plain if INTEGER.fullmatch(plain) or DECIMAL.fullmatch(plain) else "")


def _by_others(text: str, kind: str) -> Any:
    """What PyYAML makes of it, and other readers of what only they call a number; None when that says nothing more."""
    maker = yaml.constructor.SafeConstructor()
    with contextlib.suppress(ValueError, KeyError, AttributeError, OverflowError):
        if len(text) <= 40 and kind in ("int", "float", "bool"):
            value = getattr(maker, f"construct_yaml_{kind}")(yaml.ScalarNode(TAG + kind, text))
            return value if isinstance(value, bool) or math.isfinite(value) else None
        if len(text) <= 40 and NUMBER.fullmatch(text):
            with contextlib.suppress(ValueError):
                return int(text, 0)
            return float(text) if math.isfinite(float(text)) else None
    return None
