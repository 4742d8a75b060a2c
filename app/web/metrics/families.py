"""A metric with its samples, in one expression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

#: The values of the labels, in their order, and the sample's own; one whose value is not known is left out.
Samples = Iterable[tuple[Sequence[str], float | None]]


def gauge(name: str, text: str, labels: Sequence[str], samples: Samples | None) -> Metric:
    """What goes up and down. Without `samples` nobody knows now."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples or ():
        if value is not None:
            family.add_metric(values, value)
    return family


def counter(name: str, text: str, labels: Sequence[str], samples: Samples | None) -> Metric:
    """What only grows; `name` ends in _total."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples or ():
        if value is not None:
            family.add_metric(values, value)
    return family


def single(name: str, text: str, value: float | None) -> Metric:
    """A gauge without labels."""
    return gauge(name, text, (), [((), value)])
