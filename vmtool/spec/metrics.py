"""Who may read the endpoint's metrics: `spec.metrics`."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from vmtool.schema import Strict
from vmtool.spec.published_port import Publish
from vmtool.spec.vllm import Digits


def _host_port(value: str) -> str:
    """PORT or IP:PORT: the container's port is vmtool's to choose."""
    Publish.parse(_full(value))
    return value


def _full(value: str) -> str:
    """As ports of the endpoint are written."""
    return f"{value}:1" if ":" in value else f"127.0.0.1:{value}:1"


class MetricsSpec(Strict):
    """The metrics for Prometheus. They are always there for this host; here for others.

    Args:
        publish: a port of this host that leads to them, as PORT (on 127.0.0.1) or IP:PORT; e.g. `"9464"`
        allow_from: networks whose scrapers may read them, beside this host; e.g. `["10.0.0.0/8"]`
        names: further names under which some are shown: those of TenSafe's guide; e.g. `["tensafe"]`
    """

    publish: Annotated[Digits, AfterValidator(_host_port)] | None = None
    allow_from: tuple[IPv4Network, ...] = ()
    names: tuple[Literal["tensafe"], ...] = ()

    @model_validator(mode="after")
    def _allowed(self) -> MetricsSpec:
        if self.publish and not Publish.parse(_full(self.publish)).loopback and not self.allow_from:
            raise ValueError("published beyond 127.0.0.1 it needs allow_from: nobody else could read them")
        return self

    def port(self, container: int) -> Publish | None:
        """The published port, which leads to that one of the container."""
        if not self.publish:
            return None
        found = Publish.parse(_full(self.publish))
        return Publish(found.host_port, container, found.host_ip)
