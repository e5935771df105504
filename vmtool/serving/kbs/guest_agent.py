"""The services of Confidential Containers on the guest's loopback (api-server-rest): data hub and attestation agent.

Whoever shares the loopback can ask them too: in a pod every container can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import strict_json
from vmtool.serving.kbs.base64url import encode
from vmtool.serving.kbs.broker_source import HUB
from vmtool.serving.kbs.errors import KeyNotReleased, printable
from vmtool.serving.kbs.http_calls import Answer, HttpServer

# The hub itself waits 50 s for its broker.
FIRST_SECONDS, SECONDS = 3.0, 60.0
TEES = ("az-snp-vtpm", "az-tdx-vtpm", "cca", "csv", "hygondcu", "sample", "se", "sgx", "snp", "tdx", "tpm", "virtcca")


@dataclass(frozen=True)
class GuestAgent:
    """What answers there.

    Args:
        tee: of the attestation agent; empty when it is not enabled.
        devices: that evidence can be had of too.
        resources: whether the data hub gives resources.
    """

    server: HttpServer
    tee: str
    devices: tuple[str, ...]
    resources: bool

    def resource(self, name: str) -> bytes:
        """A resource in clear: the hub has proven this guest to the broker that it knows."""
        return self._get("data hub", f"/cdh/resource/{name}").body

    def evidence(self, digest: bytes) -> Any:
        """Evidence of the guest."""
        answer = self._get("evidence", f"/aa/evidence?runtime_data={encode(digest)}&encoding=base64")
        try:
            return strict_json(answer.body, "the agent's evidence")
        except Untrusted as error:
            raise KeyNotReleased("evidence", str(error)) from None

    def additional(self, digest: bytes) -> str:
        """Evidence of the devices; empty without any."""
        if not self.devices:
            return ""
        answer = self._get("evidence", f"/aa/additional-evidence?runtime_data={encode(digest)}&encoding=base64")
        try:
            return answer.body.decode()
        except UnicodeDecodeError:
            raise KeyNotReleased("evidence", "the agent's evidence of the devices is no text") from None

    def _get(self, step: str, path: str) -> Answer:
        answer = self.server.call(step, "GET", path)
        if answer.status != 200:
            # Any failure is 500: a missing resource, one that is denied, no broker.
            raise KeyNotReleased(step, f"{self.server.url} answered {answer.status}", printable(answer.body))
        return answer


def find_agent(url: str = HUB) -> GuestAgent | None:
    """What answers on the loopback; None when nothing does."""
    try:
        answer = HttpServer(url, seconds=FIRST_SECONDS).call("agent", "GET", "/info")
        info: Mapping[str, Any] = answer.json("/info") if answer.status == 200 else {}
    except (KeyNotReleased, Untrusted):
        return None
    tee, devices, feature = info.get("tee") or "", info.get("additional_tees") or [], info.get("feature")
    if not isinstance(feature, str) or tee not in ("", *TEES) or not isinstance(devices, list):
        return None
    return GuestAgent(HttpServer(url, seconds=SECONDS), tee, tuple(map(str, devices)),
                      feature in ("resource", "all"))
