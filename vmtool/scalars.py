"""YAML's plain scalars, read only where every reader reads the same: what else looks like a number is refused.

YAML 1.1, which PyYAML reads, and YAML 1.2 disagree about `010`, `1:30`, `yes`, `1e3` and `2024-01-02`. A person who
leaves out the quotes means the text.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
TEXT, MERGE = f"{TAG}str", f"{TAG}merge"
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,15})\.[0-9]{1,16}")
# Whatever is a number to YAML 1.2's core schema; YAML 1.1's is the tag that PyYAML gives.
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")
READ_AS = {"int": "a number", "float": "a number", "bool": "true or false", "timestamp": "a date", "null": "nothing",
           "value": "a value of its own"}


def scalar(node: yaml.ScalarNode) -> tuple[Any, str]:
    """The value of a scalar, and what is wrong with how it is written; empty when nothing is."""
    text, kind = node.value, node.tag.removeprefix(TAG)
    if node.style is None and node.tag != TEXT and text in WORDS:
        return WORDS[text], ""
    if node.style is None and INTEGER.fullmatch(text):
        return int(text), ""
    if node.style is None and DECIMAL.fullmatch(text):
        return float(text), ""
    if node.tag == TEXT and (node.style is not None or not NUMBER.fullmatch(text)):
        return text, ""
    if kind not in READ_AS and node.tag != TEXT:
        return text, f"the tag {node.tag.replace(TAG, '!!')[:40]} is not understood"
    return text, _ambiguous(text, kind)


def quoted(text: str) -> str:
    """A text as YAML writes it in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ambiguous(text: str, kind: str) -> str:
    shown = text[:40]
    # What looks like a number in YAML 1.2 only is a text here.
    reading = READ_AS.get(kind, "a number by other readers of YAML")
    value = _by_pyyaml(text, kind)
    if value is not None and str(value) != text:
        reading += f", {str(value)[:30].lower() if isinstance(value, bool) else str(value)[:30]}"
    plain = str(value).lower() if isinstance(value, bool) else text.lower() if kind == "null" else ""
    return f"{shown} is read as {reading}: put it in quotes, {quoted(shown)}" + (
        f", or write {plain}" if plain else "")


def _by_pyyaml(text: str, kind: str) -> Any:
    """What PyYAML makes of it; None when that says nothing more."""
    maker = yaml.constructor.SafeConstructor()
    with contextlib.suppress(ValueError, KeyError, AttributeError, OverflowError):
        if kind in ("int", "float", "bool") and len(text) <= 40:
            return getattr(maker, f"construct_yaml_{kind}")(yaml.ScalarNode(TAG + kind, text))
    return None
