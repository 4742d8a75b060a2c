"""The results of a benchmark, and how they are shown: every figure beside its bar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One result: the median of the rounds, the smallest, the largest; `bar` None: for information only."""

    what: str
    value: float
    low: float
    high: float
    unit: str
    bar: float | None
    at_most: bool
    details: str

    @property
    def met(self) -> bool:
        return self.bar is None or (self.value <= self.bar if self.at_most else self.value >= self.bar)


def figure(
    what: str, values: Sequence[float], *, unit: str = "", bar: float | None, at_most: bool = False, details: str = ""
) -> Figure:
    return Figure(what, median(values), min(values), max(values), unit, bar, at_most, details)


def ratio(what: str, ours: Sequence[float], theirs: Sequence[float], *, bar: float | None, baseline: str) -> Figure:
    """Ours to the baseline, round by round: both of a round met the same load of the machine."""
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    details = f"ours {spread(ours)}/s, {baseline} {spread(theirs)}/s"
    return figure(what, pairs, unit="x", bar=bar, details=details)


def spread(values: Sequence[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def show(figures: Sequence[Figure], as_json: bool) -> int:
    """Print the results; the exit code: 1 when a bar is missed."""
    if as_json:
        print(json.dumps([{**asdict(one), "met": one.met} for one in figures], indent=1))
    else:
        for line in _table(figures):
            print(line)
    return 0 if all(one.met for one in figures) else 1


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    wide = max(len(one.what) for one in figures)
    yield f"{'':{wide}}  {'median':>9}  {'min–max':>17}  {'bar':>8}  met   in figures"
    for one in figures:
        bar = "–" if one.bar is None else f"{'≤' if one.at_most else '≥'} {one.bar:g}"
        met = "–" if one.bar is None else "yes" if one.met else "NO"
        value, between = f"{one.value:.4g}{one.unit}", f"{one.low:.4g}–{one.high:.4g}"
        yield f"{one.what:{wide}}  {value:>9}  {between:>17}  {bar:>8}  {met:<4}  {one.details}"
