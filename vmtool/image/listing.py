"""What `ctr images list` prints: a line for each name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmtool.frozen import dataclass

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ListedImage:
    """A name, and what it points to."""

    reference: str
    digest: str
    size: str


def parse_listing(text: str) -> Iterator[ListedImage]:
    """The lines: REF TYPE DIGEST SIZE UNIT PLATFORMS LABELS."""
    for words in map(str.split, text.splitlines()):
        if len(words) > 4 and DIGEST.fullmatch(words[2]):
            yield ListedImage(words[0], words[2], " ".join(words[3:5]))
