"""Metrics in Prometheus's text form as OTLP's data, in the types of opentelemetry-sdk.

The prometheus_client package parses the text; what it calls unknown, and what has no number, is a gauge or left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SECOND = 1_000_000_000
# The process's own word on when it began to count.
STARTED = "process_start_time_seconds"


def to_otlp(texts: Mapping[str, str], host: str, now: int) -> MetricsData:
    """One resource for each text.

    Args:
        texts: metrics in text form, by the instance that they are of; "" is the host itself.
        host: name of this host.
        now: nanoseconds since 1970.

    Raises:
        ValueError: a text is not in Prometheus's form.
    """
    return MetricsData([_resource(name, host, tuple(text_string_to_metric_families(text)), now)
                        for name, text in texts.items()])


def _resource(name: str, host: str, families: tuple[Family, ...], now: int) -> ResourceMetrics:
    began = next((sample.value for family in families for sample in family.samples if sample.name == STARTED), 0.0)
    start = int(began * SECOND)
    words = {"service.name": "vmtool", "host.name": host} | ({"service.instance.id": name} if name else {})
    metrics = [metric for family in families for metric in _metrics(family, start, now)]
    return ResourceMetrics(Resource(words), [ScopeMetrics(InstrumentationScope("vmtool"), metrics, "")], "")


def _metrics(family: Family, start: int, now: int) -> Iterator[Metric]:
    """A histogram's samples are one metric; of anything else, those of each name."""
    if family.type == "histogram":
        points = list(_histograms(family.samples, start, now))
        if points:
            yield Metric(family.name, family.documentation, family.unit,
                         Histogram(points, AggregationTemporality.CUMULATIVE))
        return
    by_name = defaultdict(list)
    for sample in family.samples:
        if math.isfinite(sample.value):
            by_name[sample.name].append(NumberDataPoint(sample.labels, start, now, sample.value))
    for name, found in by_name.items():
        data = Sum(found, AggregationTemporality.CUMULATIVE, True) if family.type == "counter" else Gauge(found)
        yield Metric(name, family.documentation, family.unit, data)


def _histograms(samples: list[Sample], start: int, now: int) -> Iterator[HistogramDataPoint]:
    """One for each set of labels. Prometheus counts what is at most the bound, OTLP what is between two."""
    by_labels = defaultdict[tuple[tuple[str, str], ...], list[Sample]](list)
    for sample in samples:
        labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
        by_labels[labels].append(sample)
    for labels, found in by_labels.items():
        upto = sorted((float(sample.labels["le"]), int(sample.value)) for sample in found if "le" in sample.labels)
        total = next((sample.value for sample in found if sample.name.endswith("_sum")), 0.0)
        if not upto or upto[-1][0] != math.inf:
            continue
        counts = [below - above for (_, above), (_, below) in pairwise([(0.0, 0), *upto])]
        yield HistogramDataPoint(dict(labels), start, now, upto[-1][1], total, counts,
                                 [bound for bound, _ in upto[:-1]], math.nan, math.nan)
