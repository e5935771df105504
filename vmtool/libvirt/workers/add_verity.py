"""A disk image that its reader can hold against a root hash: a program of vmtool's own.

    python -m vmtool.libvirt.workers.add_verity DISK TABLE

dm-verity's hash tree is appended to DISK, whose own part is what it was. TABLE becomes device-mapper's line for it
(Linux, Documentation/admin-guide/device-mapper/verity.rst), with the word DISK where the device is to stand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vmtool.libvirt.verity_table import table_line
from vmtool.rootfs.format.hash_tree import BLOCK


def protect(disk: Path) -> str:
    """Append the hash tree.

    Returns:
        The table's line.

    Raises:
        SystemExit: it failed.
    """
    size = disk.stat().st_size
    if not size or size % BLOCK:
        sys.exit(f"{disk} has {size} bytes, which are no whole blocks")
    # No salt: it would only make it harder to prepare other blocks with the same hashes, which nobody can with SHA-256.
    argv = ("veritysetup", "format", "--no-superblock", "--hash=sha256", "--salt=-", f"--data-block-size={BLOCK}",
            f"--hash-block-size={BLOCK}", f"--data-blocks={size // BLOCK}", f"--hash-offset={size}", *[str(disk)] * 2)
    try:
        result = subprocess.run(argv, capture_output=True, timeout=3600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"veritysetup: {error} (apt-get install cryptsetup-bin)")
    found = re.search(rb"^Root hash:\s*([0-9a-f]{64})$", result.stdout, re.MULTILINE)
    if result.returncode or not found:
        sys.exit(f"veritysetup: {result.stderr.decode(errors='replace').strip()[-300:] or 'no root hash'}")
    return table_line("DISK", "DISK", size // BLOCK, size // BLOCK, found[1].decode(), "-")


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 2:
        sys.exit(__doc__)
    line = protect(Path(words[0]))
    Path(words[1]).write_text(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
