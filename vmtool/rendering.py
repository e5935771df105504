"""The files that travel with vmtool, templates and image recipes; and what is made of the templates."""

from __future__ import annotations

import datetime
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

MARKUP = "xml.j2"
# TOML 1.0: of the control characters only the tab may stand in a basic string.
ESCAPED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\"\\]")
SHORT = {"\b": "\\b", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def shipped(kind: str) -> Path:
    """The directory of `templates`, `images` or `scripts`: inside an installed package, beside it in a checkout, where
    alone there are scripts."""
    package = Path(__file__).resolve().parent
    return package / kind if (package / kind).is_dir() else package.parent / kind


@functools.cache
def environment() -> jinja2.Environment:
    """The one for all templates: an unknown name is an error; values are escaped in XML, else each goes through the
    filter of its language, `toml` or `tojson`, or whoever calls has made it harmless where it comes to stand."""
    import jinja2  # takes longer than most commands

    made = jinja2.Environment(loader=jinja2.FileSystemLoader(shipped("templates")),
                              autoescape=jinja2.select_autoescape((MARKUP,), default=False),
                              undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True,
                              lstrip_blocks=True)
    made.filters["toml"] = to_toml
    return made


def render_template(name: str, /, **values: Any) -> str:
    """A template such as "rootfs/hook.sh", without its ending .j2; the same values give the same bytes."""
    return environment().get_template(f"{name}.j2").render(values)


def to_toml(value: Any) -> str:
    """A value as TOML writes it in one line: a boolean, number, string, date, list or table of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml_key(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, str):
        return '"' + ESCAPED.sub(lambda found: SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), value) + '"'
    raise TypeError(f"{type(value).__name__} has no form in TOML here")


def to_toml_key(key: str) -> str:
    """A key as TOML writes it: quoted where it is not of letters, digits, dashes and underscores only."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else to_toml(key)
