"""How mmdebstrap is called: trees and archives of Debian packages, from one list of arguments."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Literal

from vmtool.frozen import dataclass
from vmtool.isolation import private

NO_RECOMMENDS, NO_TRANSLATIONS = 'APT::Install-Recommends "false"', 'Acquire::Languages "none"'


@dataclass(frozen=True)
class Bootstrap:
    """One call of mmdebstrap(1), in a mount and process namespace of its own: whatever ends it, nothing is left.

    Args:
        target: the file or directory that is made; `form` says which, empty to have its name say it.
        variant: minbase for a system, extract for packages that are unpacked only, custom to install nothing itself.
        arch: as Debian names it; empty for the host's.
        apt, dpkg: lines of their configuration.
        setup, customize: hooks before and after the installation; mmdebstrap gives them to a shell with the tree in $1.
        sources: lines or files; empty for Debian's own mirror.
        emulator: file that teaches the kernel the architecture's programs (binfmt.d(5)), when it does not run them.
    """

    suite: str
    target: Path
    variant: Literal["minbase", "custom", "extract"]
    form: Literal["tar", "directory", ""] = ""
    arch: str = ""
    packages: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    dpkg: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    customize: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    emulator: str = ""
    root: bool = field(kw_only=True)

    @property
    def argv(self) -> tuple[str, ...]:
        """The same call gives the same words in the same order."""
        return (*private(root=self.root), "mmdebstrap", *self._mode(), f"--variant={self.variant}",
                *([f"--format={self.form}"] if self.form else []),
                *([f"--architectures={self.arch}"] if self.arch else []),
                *([f"--include={','.join(self.packages)}"] if self.packages else []),
                *(f"--aptopt={line}" for line in self.apt), *(f"--dpkgopt={line}" for line in self.dpkg),
                *(f"--setup-hook={line}" for line in self.setup),
                *(f"--customize-hook={line}" for line in self.customize), self.suite, str(self.target), *self.sources)

    def _mode(self) -> tuple[str, ...]:
        """As root; another architecture's programs run in a user namespace, which alone is taught its emulator."""
        if not self.emulator:
            return ("--mode=root",)
        register = (f"mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && "
                    f"cat {self.emulator} > /proc/sys/fs/binfmt_misc/register")
        return ("--mode=unshare", "--skip=check/qemu", f"--setup-hook={register}")
