"""`bin/boost-campaign`: workers that serve one campaign only, within seconds, and away again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.campaigns.boosts import check_boost, drop_boost, open_batches, queue_of, want_boost
from app.campaigns.lifecycle import find_campaign
from app.cli.context import open_home
from app.cli.instants import duration
from app.cli.running import Parser, run
from app.config import ROOT, Settings
from app.db import Db
from app.errors import Unavailable
from app.queues.broker import redis_client
from app.scaling.boost import boosted_running, bring_boost_to
from app.scaling.demand import Seen, look
from app.scaling.files import table_of
from app.scaling.scale import Moves

#: A worker is up within a second or two; on a machine that is busy, later.
PATIENCE = 20.0
STEP = 0.1

EXAMPLES = """examples:
  bin/boost-campaign 18 20      twenty workers that serve campaign 18 only
  bin/boost-campaign 18 5       five of them stay
  bin/boost-campaign 18 --off   none; they finish what they have in hand
"""


@dataclass(frozen=True)
class Answer:
    """What scripts read. `before`, `workers`: wanted before and now; `running`: up at this moment."""

    id: int
    before: int
    workers: int
    running: int
    started: tuple[str, ...]
    leaving: tuple[str, ...]
    batches: int
    eta_seconds: float | None


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = Parser(
        prog="boost-campaign",
        description="Give a campaign workers of its own. They go when it is finished, cancelled or paused.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("id", type=int, metavar="ID")
    parser.add_argument("count", type=int, nargs="?", metavar="COUNT", help="workers in all")
    parser.add_argument("--off", action="store_true", help="take them away")
    parser.add_argument("--json", action="store_true", help="one JSON document")

    def act(args: argparse.Namespace) -> int:
        if (args.count is None) != args.off:
            parser.error("say either how many workers or --off")
        settings, db = open_home()
        answer = unboost(settings, db, root, args.id) if args.off else boost(settings, db, root, args.id, args.count)
        print(json.dumps(asdict(answer)) if args.json else "\n".join(describe(answer)))
        return 0 if answer.running >= answer.workers else 1

    parser.set_defaults(run=act)
    return run(parser, argv)


def boost(settings: Settings, db: Db, root: Path, campaign_id: int, count: int) -> Answer:
    """Have so many workers of its own for a sending campaign; waits until they run.

    Raises UsageError, NotFound, Refused (nothing to send; more than fit) or Unavailable, and has changed nothing then.
    """
    before = check_boost(db, campaign_id, count)
    seen = _look(settings, db, root)
    moves = bring_boost_to(
        settings, root, db, campaign_id, count, seen, lambda: want_boost(db, campaign_id, count)
    )  # fmt: skip
    running = _wait(settings, root, campaign_id, count)
    eta = _eta(seen, campaign_id, count)
    return Answer(campaign_id, before, count, running, *_names(moves), open_batches(db, campaign_id), eta)


def unboost(settings: Settings, db: Db, root: Path, campaign_id: int) -> Answer:
    """Take a campaign's own workers away; they finish what they have in hand. Raises NotFound."""
    before = int(find_campaign(campaign_id).boost)
    seen = _look(settings, db, root)
    try:
        # Not before we look: a worker that learns of it leaves by itself, and would be missing from the answer.
        moves = bring_boost_to(settings, root, db, campaign_id, 0, seen, lambda: drop_boost(db, campaign_id))
    except Unavailable:
        # Without supervisord there are none; the wish goes too.
        drop_boost(db, campaign_id)
        moves = Moves()
    return Answer(campaign_id, before, 0, 0, *_names(moves), open_batches(db, campaign_id), None)


def describe(answer: Answer) -> list[str]:
    """The lines that people read."""
    name = f"campaign {answer.id}"
    if answer.workers == 0:
        if not answer.leaving:
            return [f"{name} has no workers of its own"]
        return [f"{name}: {len(answer.leaving)} workers finish what they have in hand and go"]
    if answer.started or answer.leaving:
        lines = [f"{name}: {answer.running} of {answer.workers} workers run, {len(answer.started)} of them new"]
    else:
        lines = [f"{name} has {answer.workers} workers already"]
    if answer.leaving:
        lines.append(f"{len(answer.leaving)} finish what they have in hand and go")
    if 0 < answer.batches < answer.workers:
        lines.append(f"only {answer.batches} batches are open: more workers than that find nothing to do")
    if answer.eta_seconds is None:
        lines.append(f"when it will be finished cannot be said yet: bin/monitor-campaign {answer.id}")
    else:
        lines.append(f"at the speed measured so far it is finished in {duration(answer.eta_seconds)}")
    if answer.running < answer.workers:
        lines.append(f"not all are up yet: bin/supervisor-manager logs {queue_of(answer.id)} --errors")
    return lines


def _look(settings: Settings, db: Db, root: Path) -> Seen:
    return look(redis_client(settings.redis_url), db, table_of(settings, root))


def _wait(settings: Settings, root: Path, campaign_id: int, count: int) -> int:
    """Wait until so many workers run, or the campaign is finished meanwhile; how many run."""
    deadline = time.monotonic() + PATIENCE
    while True:
        running = boosted_running(settings, root, campaign_id)
        if running >= count or time.monotonic() > deadline:
            return running
        time.sleep(STEP)


def _eta(seen: Seen, campaign_id: int, count: int) -> float | None:
    """Seconds to the end with `count` workers, at the speed that a worker has shown; None: not measured yet."""
    if seen.workers is None or seen.recipients is None or campaign_id not in seen.recipients:
        return None
    mine = seen.recipients[campaign_id]
    own, all_ = 0.0, 0.0
    for worker in seen.workers:
        # One that came a moment ago has had only so much of the time that was measured.
        part = min(1.0, worker.uptime / mine.rate_seconds)
        own += part * (queue_of(campaign_id) in worker.queues)
        all_ += part * any(queue == "send" or queue.startswith("campaign_") for queue in worker.queues)
    each = sum(one.rate_per_second for one in seen.recipients.values()) / max(1.0, all_)
    speed, left = mine.rate_per_second + (count - own) * each, mine.due + mine.leased
    return round(left / speed, 1) if speed > 0 and left else None


def _names(moves: Moves) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return moves.started, moves.leaving


if __name__ == "__main__":
    sys.exit(main())
