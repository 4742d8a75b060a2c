"""`bin/monitor-campaign`: a campaign live, until it ends."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.campaigns.look import Look, told
from app.cli.context import open_home
from app.cli.instants import duration
from app.cli.look import Watcher
from app.cli.running import Parser, run

EIGHTHS = " ▁▂▃▄▅▆▇█"
HISTORY = 40
#: A log is not filled with the same line more often than this, in seconds.
QUIET_SECONDS = 20.0
#: Between two looks, in seconds: less is taken as this, more than a day is a mistake.
SHORTEST, LONGEST = 0.2, 86_400.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="monitor-campaign",
        description="Watch a campaign live; ends when the campaign does.",
        epilog="example: bin/monitor-campaign 18 5",
    )
    parser.add_argument("id", type=int, metavar="ID")
    parser.add_argument("seconds", type=_seconds, nargs="?", default=1.0, metavar="SECONDS", help="between two looks")
    parser.set_defaults(run=monitor)
    return run(parser, argv)


def monitor(args: argparse.Namespace) -> int:
    settings, db = open_home()
    look = watch(Watcher(settings, db, args.id).look, max(SHORTEST, args.seconds))
    return 0 if look.progress.status != "failed" else 1


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of seconds from 0 to {LONGEST:.0f}")
    return value


def watch(look: Callable[[], Look], seconds: float) -> Look:
    """Show looks until the campaign has ended; the last one."""
    if not sys.stdout.isatty():
        return _watch_plainly(look, seconds)
    speeds: list[float] = []
    with Live(console=Console(), refresh_per_second=8) as live:
        while True:
            now = look()
            speeds = [*speeds, now.progress.rate_per_second][-HISTORY:]
            live.update(render(now, speeds))
            if now.ended:
                return now
            time.sleep(seconds)


def _watch_plainly(look: Callable[[], Look], seconds: float) -> Look:
    """A line whenever something has changed, and now and then when nothing has."""
    shown, at = "", 0.0
    while True:
        now = look()
        line = plain_line(now)
        if line != shown or time.monotonic() - at > QUIET_SECONDS:
            print(line, flush=True)
            shown, at = line, time.monotonic()
        if now.ended:
            return now
        time.sleep(seconds)


def percent(now: Look) -> float:
    p = now.progress
    if p.status == "sent":
        return 100.0
    return 100 * p.done / p.recipients if p.recipients else 0.0


def phase(now: Look) -> str:
    """What the campaign is doing, in words."""
    p = now.progress
    if p.status == "scheduled":
        return "waiting for the minute tick"
    if p.status == "paused":
        in_hand = f", {p.sending:,} in hand yet" if p.sending else ""
        by_itself = f" by itself: {p.reason}" if p.reason else ""
        return f"paused{by_itself}{in_hand} (bin/mailcrew campaigns resume {p.campaign_id})"
    if p.expanding:
        return f"expanding, {p.recipients:,} recipients so far"
    return p.status


def plain_line(now: Look) -> str:
    """One line for a pipe or a log."""
    p = now.progress
    eta = f" eta {duration(p.eta_seconds)}" if p.eta_seconds is not None else ""
    warning = " WARNING: there is work and no worker" if now.idle_for_lack_of_workers else ""
    blocked = f" waiting: {now.blocked_by}" if now.blocked_by else ""
    return (
        f"campaign {p.campaign_id} {phase(now)} {percent(now):.1f}% {p.done}/{p.recipients} sent={p.sent} "
        f"failed={p.failed} skipped={p.skipped} unknown={p.unknown} queue={now.queue} workers={now.workers} "
        f"{p.rate_per_second:.1f}/s{eta}{blocked}{warning}"
    )


def render(now: Look, speeds: Sequence[float]) -> Group:
    """The picture for a terminal: bar, numbers, the speed of the last looks as a small plot."""
    p = now.progress
    title = Text.assemble((f"campaign {p.campaign_id}  ", "bold"), (p.name, "bold cyan"), f"  {phase(now)}")
    bar = Table.grid(padding=(0, 1))
    colour = "green" if p.status == "sent" else "cyan"
    bar.add_row(
        ProgressBar(total=100, completed=percent(now), width=50, complete_style=colour, finished_style="green"),
        Text(f"{percent(now):5.1f} %", style="bold"),
        Text(f"{p.done:,} of {p.recipients:,}"),
    )
    numbers = Table.grid(padding=(0, 3))
    numbers.add_row(
        Text(f"sent {p.sent:,}", style="green"),
        Text(f"failed {p.failed:,}", style="red" if p.failed else "dim"),
        Text(f"skipped {p.skipped:,}", style="yellow" if p.skipped else "dim"),
        Text(f"unknown {p.unknown:,}", style="magenta" if p.unknown else "dim"),
        Text(f"in hand {p.sending:,}", style="dim"),
    )
    pace = Text.assemble(
        (f"{p.rate_per_second:,.0f} mails/s ", "bold"),
        (sparkline(speeds), "cyan"),
        f"   ETA {duration(p.eta_seconds) if p.eta_seconds is not None else '–'}",
        f"   queue {'?' if now.queue is None else now.queue}   workers {'?' if now.workers is None else now.workers}",
    )
    lines: list[RenderableType] = [title, bar, numbers, pace]
    if p.blocked_by:
        lines.append(Text(f"waiting: {p.blocked_by}", style="yellow"))
    lines += [Text(told(one), style="bold red") for one in now.troubles]
    if now.idle_for_lack_of_workers:
        lines.append(Text("there is work and no worker: bin/supervisor-manager start", style="bold red"))
    return Group(*lines)


def sparkline(values: Sequence[float]) -> str:
    """Values as a line of little bars, the highest full."""
    top = max(values, default=0.0)
    return "".join(EIGHTHS[round(8 * value / top)] if top else EIGHTHS[0] for value in values)


if __name__ == "__main__":
    sys.exit(main())
