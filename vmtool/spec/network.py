"""`spec.network`: where the endpoint is reached."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from vmtool.paths import NAME
from vmtool.schema import Strict
from vmtool.spec.published_port import Publish
from vmtool.spec.vllm import Digits

# net.ipv4.ip_unprivileged_port_start of a new network namespace.
LEAST_PORT = 1024


def published(value: str) -> str:
    """A port that can be published.

    Raises:
        ValueError: it is not one.
    """
    port = Publish.parse(value)
    if port.protocol != "tcp":
        raise ValueError(f"{value!r}: the endpoint speaks HTTP, which is TCP")
    if port.container_port < LEAST_PORT:
        raise ValueError(f"the server in the container is not root, so its port is {LEAST_PORT} or more; did you mean "
                         f"{port.host_port}:8000?")
    return value


Port = Annotated[Digits, AfterValidator(published)]


class NetworkSpec(Strict):
    """The container's network; without a name it has one of its own, named like the instance.

    Args:
        name: of a network that instances share; e.g. `lab`
        bridge: the bridge's name, for a network that is made; e.g. `vmt-lab`
        subnet: its addresses; a free one when left out; e.g. `10.203.36.0/24`
        publish: ports of this host that lead to the endpoint, as PORT, HOST:CONTAINER or IP:HOST:CONTAINER; on
            127.0.0.1 without an IP; e.g. `["0.0.0.0:8000:8000"]`
    """

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")] | None = None
    bridge: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,14}$")] | None = None
    subnet: str = "auto"
    publish: tuple[Port, ...] = ()

    @property
    def ports(self) -> tuple[Publish, ...]:
        """The published ports, parsed."""
        return tuple(Publish.parse(item) for item in self.publish)
