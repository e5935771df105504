"""Which broker has a model's master key, and under which name: known before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass

# Of api-server-rest, which Confidential Containers' guests have.
HUB = "http://127.0.0.1:8006"


@dataclass(frozen=True)
class BrokerSource:
    """A key that a broker releases.

    Args:
        resource: its name, such as demo/model/key.
        url: the broker's address; empty when only the guest's data hub is asked, which knows its own.
        ca: the only CAs that the broker's certificate may lead to, as PEM.
        allow_unconfidential: take the sample attester where there is no other.
        init_data: TOML text that the host gave the guest, and the guest's evidence is bound to; empty for none.
        seconds: that each call may take.
        hub: address of the guest's own services.
    """

    resource: str
    url: str = ""
    ca: str = ""
    allow_unconfidential: bool = False
    init_data: str = ""
    seconds: float = 30.0
    hub: str = HUB
