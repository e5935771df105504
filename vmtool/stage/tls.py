"""The endpoint's certificate."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.findings import Finding, wrong_input
from vmtool.stage.launch import Launch, Stage


class TlsStage(Stage):
    """Makes the certificate ready once the container's address is known, before the front is given it."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        for key, text in launch.tls_problems:
            yield wrong_input("launch.tls", text, place=f"spec.tls.{key}")

    def steps(self, launch: Launch) -> Iterator[p.Step]:
        if launch.body.tls.on:
            from vmtool.tls.plan import plan_certificate  # needs cryptography, which a launch without TLS does not

            yield plan_certificate(launch.state, launch.body, launch.paths)
