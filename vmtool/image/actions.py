"""Actions on containerd's images."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from vmtool.containerd.endpoint import Endpoint
from vmtool.errors import ProgramFailed, VerificationFailed
from vmtool.frozen import dataclass
from vmtool.image.listing import parse_listing
from vmtool.machine import check, is_full
from vmtool.plan.action import Action
from vmtool.plan.programs import Run

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class ExpectDigest(Action):
    """Require that an image's name points to what was checked; `hint` helps when it does not."""

    endpoint: Endpoint
    reference: str
    digest: str
    hint: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        return self.endpoint.ctr("images", "list", f"name=={self.reference}")

    def shell(self) -> str:
        return f"{shlex.join(self.argv)} | awk '{{print $3}}' | grep -Fx {self.digest}"

    def do(self, host: Host) -> None:
        result = host.execute(self.argv, deadline=30.0)
        check(self.argv, result)
        found = next((row.digest for row in parse_listing(result.out) if row.reference == self.reference), "")
        if found != self.digest:
            points = f"points to {found}" if found else "is not there"
            raise VerificationFailed(f"the image {self.reference} {points}, not to {self.digest}", hint=self.hint)


class DamagedCache(ProgramFailed):
    """What buildah keeps of earlier builds is not what it wrote: without it, it builds again."""


@dataclass(frozen=True)
class RunBuildah(Run):
    """Run buildah.

    Args:
        damaged: pieces of buildah's own errors that mean that its storage is damaged.
    """

    damaged: tuple[str, ...] = ()

    def do(self, host: Host) -> None:
        """Do it.

        Raises:
            DamagedCache: its storage is damaged.
        """
        result = host.execute(self.argv, deadline=self.deadline, env=self.env)
        errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
        # Of its writer that met a full disk buildah at times tells no more than this.
        hidden = any("on closed pipe" in line for line in errors)
        if result.status and not hidden and not is_full(result) and any(
                text in line for line in errors for text in self.damaged):
            raise DamagedCache("what buildah keeps of earlier builds is damaged", details=errors[-1:],
                               hint="does the disk have errors? look at dmesg")
        check(self.argv, result, self.hint or ("is a disk full? df -h" if hidden else ""))
