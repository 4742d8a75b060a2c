"""Replay every trace with the policy and with fixed numbers of workers, and hold the policy against its bars."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import table
from bench.scaling import plot
from bench.scaling.replay import Outcome, fixed, ours, replay
from bench.scaling.traces import Trace, all_traces
from bench.table import Figure

FLOOR, MOST = 2, 30
FIXED = (4, 10, 20, 30)
#: Of the burst: the time to drain beside 30 workers', and the worker-minutes of the hour beside theirs.
TIME_BAR, COST_BAR = 1.15, 0.5


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling",
        description="Time to drain, worker-minutes and changes of the autoscaling policy, in virtual time.",
        epilog="example: .venv/bin/python -m bench.scaling --trace burst --plot",
    )
    parser.add_argument("--trace", choices=[one.name for one in all_traces()], help="only this one")
    parser.add_argument("--plot", action="store_true", help="draw backlog and workers over time")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the drawing as SVG")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    results = {one: fleets(one) for one in all_traces() if args.trace in (None, one.name)}
    figures = [bar for one, outcomes in results.items() for bar in bars(one, outcomes)]
    if args.svg:
        args.svg.write_text(plot.as_svg([outcomes[0] for outcomes in results.values()]), encoding="utf-8")
    if args.json:
        document = {
            "outcomes": [as_json(one) for outcomes in results.values() for one in outcomes],
            "bars": [{**asdict(one), "met": one.met} for one in figures],
        }
        print(json.dumps(document, indent=1))
        return 0 if all(one.met for one in figures) else 1
    for outcomes in results.values():
        for line in [*rows(outcomes), *(plot.as_text(outcomes[0]) if args.plot else ()), ""]:
            print(line)
    return table.show(figures, as_json=False)


def fleets(trace: Trace) -> list[Outcome]:
    """The policy first, then the fixed numbers."""
    policy = replay(trace, ours(trace, FLOOR, MOST), f"policy {FLOOR}-{MOST}", FLOOR)
    return [policy, *(replay(trace, fixed(number), f"fixed {number}", number) for number in FIXED)]


def bars(trace: Trace, outcomes: Sequence[Outcome]) -> list[Figure]:
    """The figures that decide. Each wave of a load excuses one way up and one way down."""
    policy, thirty = outcomes[0], outcomes[-1]
    turns = table.figure(
        f"{trace.name}: reversals", [policy.reversals], bar=2 * trace.waves - 1, at_most=True,
        details=f"{trace.waves} waves of load, {policy.changes} changes",
    )  # fmt: skip
    if trace.name != "burst":
        return [turns]
    slower, cost = policy.drain_minutes / thirty.drain_minutes, policy.worker_minutes / thirty.worker_minutes
    return [
        table.figure(
            "burst: time to drain, to fixed 30", [slower], unit="x", bar=TIME_BAR, at_most=True,
            details=f"{policy.drain_minutes:.1f} and {thirty.drain_minutes:.1f} min",
        ),
        table.figure(
            "burst: worker-minutes of the hour, to fixed 30", [cost], unit="x", bar=COST_BAR, at_most=True,
            details=f"{policy.worker_minutes:.0f} and {thirty.worker_minutes:.0f}",
        ),
        turns,
    ]  # fmt: skip


def rows(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [
        f"{outcomes[0].trace:14} {'drained in':>11} {'longest wait':>13} {'worker-min':>11} {'most':>5} {'changes':>8}"
    ]
    for one in outcomes:
        drained, waited = f"{one.drain_minutes:.1f} min", f"{one.longest_wait / 60:.1f} min"
        lines.append(
            f"  {one.fleet:12} {drained:>11} {waited:>13} {one.worker_minutes:11.0f} {one.most:5} {one.changes:8}"
        )
    return lines


def as_json(one: Outcome) -> dict[str, object]:
    return {
        "trace": one.trace,
        "fleet": one.fleet,
        "drain_minutes": round(one.drain_minutes, 2),
        "longest_wait_minutes": round(one.longest_wait / 60, 2),
        "worker_minutes": round(one.worker_minutes, 1),
        "most_workers": one.most,
        "changes": one.changes,
        "reversals": one.reversals,
    }


if __name__ == "__main__":
    sys.exit(main())
