"""What adds an extra: packages that most of vmtool does without (setup.cfg, options.extras_require)."""

from __future__ import annotations

import os
import sys

from vmtool.errors import shell_word


def adding(extra: str) -> str:
    """The command that adds one to this vmtool: of a checkout its own setup, else that of pip."""
    setup = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts", "setup")
    if os.path.exists(setup):
        return f"{shell_word(setup)} --extra {extra}"
    return f"{shell_word(sys.executable)} -I -m pip install 'vmtool[{extra}]'"
