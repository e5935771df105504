"""What an engine says of itself in Prometheus's text form: only what every Prometheus can read is passed on.

One line that it cannot read costs all of a scrape, also what the front counts.
"""

from __future__ import annotations

import re

# The front's own names are nobody else's.
_NAME = r"(?!vmtool_|tensafe_)[a-zA-Z_:][a-zA-Z0-9_:]{0,199}"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]{0,99}="(?:[^"\\\n]|\\[\\"n])*"'
# Numbers that fit: one that is out of range is an error as well.
_VALUE = r"(?:[+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,2})?|[+-]Inf|NaN)"
_LINES = re.compile(rf"^(?:# HELP {_NAME} [^\n]*|# TYPE {_NAME} (?:counter|gauge|histogram|summary|untyped)"
                    rf"|{_NAME}(?:\{{(?:{_LABEL}(?:,{_LABEL})*,?)?\}})? {_VALUE}(?: [0-9]{{1,18}})?)$", re.MULTILINE)


def readable(text: bytes) -> bytes:
    """The lines that can be read."""
    lines = _LINES.findall(text.decode(errors="replace"))
    return "".join(f"{line}\n" for line in lines).encode()
