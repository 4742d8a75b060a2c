"""Figures, instants and durations as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup, escape

from app.web.console.words import told

#: A duration shows its two largest units.
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
NOTHING = "–"
_NOTHING = Markup("–")


def number(value: float | None) -> str:
    """12,345 or 1,234.5; a dash when it is not known."""
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}".removesuffix(".0")


def percent(part: float, whole: float) -> str:
    """Never 100 % before all of it, never 0 % once there is some."""
    share = part / whole * 100 if whole else 0.0
    if 0 < share < 0.1 or 99.9 < share < 100:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def duration(seconds: float | None) -> str:
    """2 h 5 min; a dash when it is not known."""
    if seconds is None:
        return NOTHING
    left = round(seconds)
    shown: list[str] = []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count and len(shown) < 2:
            shown.append(told(f"units.{name}", n=count))
        elif shown:
            break
    return " ".join(shown) or told("units.s", n=0)


def megabytes(value: float | None) -> str:
    return NOTHING if value is None else told("units.mb", n=round(value))


def instant(ms: int | None) -> Markup:
    """An instant (ms since 1970) that the browser shows in the viewer's zone; until then in UTC."""
    if ms is None:
        return _NOTHING
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        at.isoformat(timespec="seconds").replace("+00:00", "Z"), at.strftime("%Y-%m-%d %H:%M:%S")
    )


def exact(ms: float) -> Markup:
    """An instant (ms since 1970) to the millisecond, for logs."""
    at = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time data-exact datetime="{}">{} UTC</time>').format(at, at[:-1].replace("T", " "))


def ago(ms: int | None) -> Markup:
    """An instant that the browser shows as how long ago it was, and counts on."""
    if ms is None:
        return _NOTHING
    return instant(ms).replace("<time ", Markup("<time data-ago "), 1)


def shortened(text: str | None, length: int = 80) -> Markup:
    """The beginning of a long text, all of it as its title."""
    if not text:
        return _NOTHING
    if len(text) <= length:
        return escape(text)
    return Markup('<span title="{}">{}…</span>').format(text, text[: length - 1])
