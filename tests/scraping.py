"""What the tests of /metrics share: its answer as Prometheus' own library reads it, and the list in the documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from app.config import ROOT

ROW = re.compile(r"^\| `(mailcrew_\w+)` \| (gauge|counter) \| ([^|]*)\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One metric as docs/operations.md has it."""

    kind: str
    labels: frozenset[str]


def documented() -> dict[str, Row]:
    rows = ROW.findall((ROOT / "docs" / "operations.md").read_text("utf-8"))
    return {name: Row(kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _, _ in rows}


class Scraped:
    """One answer of /metrics, in either format; `families` by the names that rules use: counters end in _total."""

    def __init__(self, text: str) -> None:
        is_open: bool = text.endswith("# EOF\n")
        parse: Any = openmetrics.text_string_to_metric_families if is_open else text_string_to_metric_families
        found: list[Metric] = list(parse(text))
        self.families: Mapping[str, Metric] = {_name(one): one for one in found}
        assert len(self.families) == len(found), "a metric stands there twice"

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample with these labels; None when there is none."""
        found = [sample.value for sample in self.families[name].samples if sample.labels == labels]
        assert len(found) < 2, name
        return found[0] if found else None

    def values(self, name: str, label: str) -> dict[str, float]:
        """Every sample of a metric with this label alone."""
        return {sample.labels[label]: sample.value for sample in self.families[name].samples}

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample that must never fall."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values() if family.type == "counter"
            for sample in family.samples
        }  # fmt: skip


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
