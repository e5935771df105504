"""What only the host knows of instances, in Prometheus's text form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmtool.frozen import dataclass

ABOUT = {"vmtool_instance_running": "Whether its process lives.",
         "vmtool_canary_right": "Whether the newest answer to the canary's question was right.",
         "vmtool_canary_time_seconds": "When the canary was asked last.",
         "vmtool_certificate_end_time_seconds": "When the certificate that the endpoint shows ends."}


@dataclass(frozen=True)
class InstanceFacts:
    """What is known of one instance; None is what is not known."""

    name: str
    running: bool
    canary: bool | None = None
    asked: float | None = None
    certificate_ends: float | None = None

    @property
    def values(self) -> dict[str, float | None]:
        known = (self.running, self.canary, self.asked, self.certificate_ends)
        return dict(zip(ABOUT, known, strict=True))


def host_lines(instances: Iterable[InstanceFacts]) -> Iterator[str]:
    """The lines. Names of instances hold nothing that would need an escape."""
    every = tuple(instances)
    for name, about in ABOUT.items():
        found = [(one.name, value) for one in every if (value := one.values[name]) is not None]
        if found:
            yield f"# HELP {name} {about}"
            yield f"# TYPE {name} gauge"
            # Not `instance`, which is Prometheus's own label for where it has read this.
            yield from (f'{name}{{name="{instance}"}} {float(value):.10g}' for instance, value in found)
