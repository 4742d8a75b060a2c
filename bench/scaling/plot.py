"""Backlog and workers over time, for a terminal and as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from bench.scaling.replay import Outcome

WIDTH, LINES = 40, 24
PANEL_W, PANEL_H, LEFT, TOP, RIGHT, BOTTOM = 420, 150, 62, 34, 40, 26
COLUMNS = 2
BACKLOG, LINE, TEXT, GRID = "#9db8d9", "#b3441e", "#333", "#ddd"


def as_text(one: Outcome) -> Iterator[str]:
    """A line a moment: what waits and how many workers there are."""
    most_waiting = max(look.backlog for look in one.looks) or 1
    most_workers = max(look.workers for look in one.looks) or 1
    yield f"{one.trace} ({one.fleet})"
    yield f"{'minute':>7}  {'backlog':{WIDTH + 8}}  workers"
    step = max(1, len(one.looks) // LINES)
    for look in one.looks[::step]:
        bar = "█" * round(look.backlog / most_waiting * WIDTH)
        crew = "▪" * round(look.workers / most_workers * WIDTH / 2)
        yield f"{look.second / 60:7.1f}  {bar:{WIDTH}} {look.backlog:7,}  {crew} {look.workers}"


def as_svg(outcomes: Sequence[Outcome]) -> str:
    """A panel a trace: the area is the backlog (left scale), the line the workers (right scale)."""
    wide, high = PANEL_W + LEFT + RIGHT, PANEL_H + TOP + BOTTOM
    rows = -(-len(outcomes) // COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide * COLUMNS} {high * rows}" '
        f'font-family="sans-serif" font-size="11" fill="{TEXT}">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, one in enumerate(outcomes):
        x, y = number % COLUMNS * wide + LEFT, number // COLUMNS * high + TOP
        parts += [f'<g transform="translate({x} {y})">', *_panel(one), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(one: Outcome) -> Iterator[str]:
    end = one.looks[-1].second
    most_waiting = _round_up(max(look.backlog for look in one.looks))
    most_workers = _round_up(max(look.workers for look in one.looks))
    yield (
        f'<text x="0" y="-14" font-size="13" font-weight="bold">{escape(one.trace)}</text>'
        f'<text x="{PANEL_W}" y="-14" text-anchor="end">drained in {one.drain_minutes:.1f} min, '
        f"{one.worker_minutes:.0f} worker-minutes</text>"
    )
    for part in (0.0, 0.5, 1.0):
        y = PANEL_H * (1 - part)
        yield f'<line x1="0" x2="{PANEL_W}" y1="{y:g}" y2="{y:g}" stroke="{GRID}"/>'
        yield f'<text x="-6" y="{y + 4:g}" text-anchor="end">{most_waiting * part:,.0f}</text>'
        yield f'<text x="{PANEL_W + 6}" y="{y + 4:g}" fill="{LINE}">{most_workers * part:g}</text>'
    for minute in range(0, round(end / 60) + 1, 10):
        x = PANEL_W * minute * 60 / end
        yield f'<text x="{x:.0f}" y="{PANEL_H + 16}" text-anchor="middle">{minute} min</text>'
    area: list[str] = [f"M0 {PANEL_H}"]
    crew: list[str] = []
    for look in one.looks:
        x = PANEL_W * look.second / end
        area.append(f"L{x:.1f} {PANEL_H * (1 - look.backlog / most_waiting):.1f}")
        y = PANEL_H * (1 - look.workers / most_workers)
        crew.append(f"{'H' if crew else 'M'}{x:.1f}{f' {y:.1f}' if not crew else f'V{y:.1f}'}")
    yield f'<path d="{" ".join(area)} L{PANEL_W} {PANEL_H}Z" fill="{BACKLOG}"/>'
    yield f'<path d="{" ".join(crew)}" fill="none" stroke="{LINE}" stroke-width="1.8"/>'


def _round_up(value: int) -> int:
    """The end of a scale: 1, 2, 3, 4, 6 or 8 and zeros, so that its half is round too."""
    power = 1
    while power * 10 <= value:
        power *= 10
    return next(step * power for step in (1, 2, 3, 4, 6, 8, 10) if step * power >= value)
