"""The endpoint's certificate."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.claims import WORD, Claim
from vmtool.findings import Finding, wrong_input
from vmtool.instance.instance import Instance
from vmtool.machine import Reader
from vmtool.serving.access_list import OWN_KEY
from vmtool.stage.launch import Launch, Stage
from vmtool.stage.server import health_deadline

HELD_HERE = ("made on this host and handed over: whoever runs this host can read what clients send, whatever evidence "
             "is bound to it; spec.tls.source: guest")
IN_GUEST = "made by the endpoint at its start, and given to nobody; evidence is bound to it"


class TlsStage(Stage):
    """Makes the certificate ready once the container's address is known, before the front is given it."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        for key, text in launch.tls_problems:
            yield wrong_input("launch.tls", text, place=f"spec.tls.{key}")

    def steps(self, launch: Launch) -> Iterator[p.Step]:
        if launch.body.tls.on:
            from vmtool.tls.plan import plan_certificate  # needs cryptography, which a launch without TLS does not

            yield plan_certificate(launch.state, launch.body, launch.paths)

    def claims(self, reader: Reader, instance: Instance, *, whole: bool) -> Iterator[Claim]:
        record = instance.record
        if record and record.tls:
            own = reader.exists(str(instance.paths.tls / OWN_KEY))
            yield Claim("tls.key", "not-checked", f"{WORD}{IN_GUEST}" if own else HELD_HERE)


class OwnKeyStage(Stage):
    """Learns the key that the endpoint has made, once it serves and before it is asked anything."""

    def steps(self, launch: Launch) -> Iterator[p.Step]:
        if launch.body.tls.in_guest:
            from vmtool.tls.plan import plan_own_key

            yield plan_own_key(launch.server, launch.paths, health_deadline(launch))
