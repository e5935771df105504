"""Which files of a launch its guest's evidence is compared with, and kept in; the verifiers are not loaded here."""

from __future__ import annotations

from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.instance.instance import Paths

# Among an instance's evidence; what is in the folder goes into bundles as well.
REFERENCE, ANSWER, COLLATERAL = "tee-reference.yaml", "tee.json", "collateral"


@dataclass(frozen=True)
class Files:
    """Where they are.

    Args:
        tee: of the launch; evidence: the instance's directory of it.
        collateral: the host's directory of certificates, revocation lists and makers' collateral; it need not be there.
        key: the instance's API key, with which nobody without one can keep its host from asking.
    """

    tee: str
    evidence: Path
    collateral: Path
    key: Path


def files_of(paths: Paths, tee: str) -> Files:
    """Those of an instance."""
    return Files(tee, paths.evidence, paths.directory.parents[1] / COLLATERAL, paths.key)
