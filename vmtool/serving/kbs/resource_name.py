"""Names of resources: REPOSITORY/TYPE/TAG, with characters that mean nothing in a path or a shell."""

from __future__ import annotations

import re

_PART = r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127}"
RESOURCE = re.compile(rf"{_PART}/{_PART}/{_PART}")


def resource_name(text: str) -> str:
    """The name, of which a kbs:/// before it is left out.

    Raises:
        ValueError: it is none.
    """
    name = text.removeprefix("kbs:///")
    if not RESOURCE.fullmatch(name):
        raise ValueError("a resource is named REPOSITORY/TYPE/TAG, such as demo/model/key")
    return name
