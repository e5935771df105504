"""Metrics sent to a collector by OTLP over HTTP, with opentelemetry's exporter."""

from __future__ import annotations

import logging
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path

from vmtool.errors import ProgramMissing, Refused, VmtoolError
from vmtool.extras import adding
from vmtool.frozen import dataclass

# Seconds for one delivery, with the exporter's own tries in it: a collector that hangs costs that much.
DEADLINE = 10.0
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")


@dataclass(frozen=True)
class Collector:
    """Where metrics go.

    Args:
        endpoint: URL with its path, e.g. http://collector:4318/v1/metrics.
        headers: sent along, such as its key.
        ca: file of the certificate authority that its certificate must come from; None for the system's.
    """

    endpoint: str
    headers: Mapping[str, str]
    ca: Path | None = None


def read_headers(data: bytes, where: Path) -> dict[str, str]:
    """Lines of `name: value`; a message has no part of them, since they hold keys.

    Raises:
        Refused: a line is something else.
    """
    lines = [line.strip() for line in data.split(b"\n")]
    found = [(number, HEADER.fullmatch(line)) for number, line in enumerate(lines, 1) if line]
    for number, match in found:
        if not match:
            raise Refused(f"{where}:{number}: not of the form name: value", hint="one header in a line")
    return {match[1].decode(): match[2].decode() for _, match in found if match}


def push(collector: Collector, texts: Mapping[str, str]) -> None:
    """Deliver metrics in Prometheus's text form, by the instance that they are of.

    Raises:
        VmtoolError: the collector did not take them, or they are not metrics.
        ProgramMissing: opentelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import MetricExportResult
        from requests import Session

        from vmtool.metrics.otlp import to_otlp
    except ModuleNotFoundError as error:
        raise ProgramMissing(f"--otlp needs the Python package {error.name}",
                             hint=adding("otlp")) from None

    session = Session()
    session.trust_env = False      # neither proxies nor passwords out of whoever's environment
    exporter = OTLPMetricExporter(collector.endpoint, headers=collector.headers, timeout=DEADLINE, session=session,
                                  certificate_file=str(collector.ca) if collector.ca else None)
    said = _Said()
    logging.getLogger("opentelemetry").addHandler(said)
    try:
        data = to_otlp(texts, platform.node(), time.time_ns())
        if exporter.export(data) is not MetricExportResult.SUCCESS:
            raise VmtoolError(f"{collector.endpoint} did not take the metrics: {said.last}",
                              hint="look whether it speaks OTLP over HTTP there; the path is mostly /v1/metrics")
    except ValueError as error:
        raise VmtoolError(f"no metrics: {error}") from None
    finally:
        logging.getLogger("opentelemetry").removeHandler(said)
        exporter.shutdown()


class _Said(logging.Handler):
    """What the exporter logs is all that it tells of a failure."""

    last = "no reason was given"

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()[:300]
