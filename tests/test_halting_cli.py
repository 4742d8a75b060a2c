"""`mailcrew campaigns pause|resume|cancel` as people type them, and what is shown of such campaigns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app import config
from app.campaigns.batches import lease_next, new_token
from app.campaigns.lifecycle import find_campaign, schedule_campaign
from app.cli.check_campaign import describe
from app.cli.look import Watcher
from app.cli.main import main
from app.cli.monitor_campaign import plain_line
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tables import Campaign
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.test_campaigns_cli import environment

Said = pytest.CaptureFixture[str]


@pytest.fixture
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    config.settings.cache_clear()
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 150))
    yield settings
    config.settings.cache_clear()


@pytest.fixture
def campaign(db: Db, home: Settings) -> int:
    """A campaign being sent to 150 people."""
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, home, campaign_id)
    return campaign_id


def said(capsys: Said, code: int, *arguments: object) -> tuple[str, str]:
    """What a command says on stdout and on stderr, its exit code being this one."""
    capsys.readouterr()
    assert main(["campaigns", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    return out, err


def shown(db: Db, home: Settings, campaign_id: int) -> tuple[str, str]:
    """What check-campaign and monitor-campaign show."""
    look = Watcher(home, db, campaign_id).look()
    return "\n".join(describe(db, look)), plain_line(look)


def test_pausing_and_resuming_say_what_to_type_next(db: Db, home: Settings, campaign: int, capsys: Said) -> None:
    resume = f"bin/mailcrew campaigns resume {campaign}"
    out, _ = said(capsys, 0, "pause", campaign)
    assert out == f"campaign {campaign} is paused; let it go on: {resume}\n"
    assert f"campaign {campaign} is already paused" in said(capsys, 0, "pause", campaign)[0]
    checked, watched = shown(db, home, campaign)
    assert resume in checked
    assert resume in watched
    assert "is sending again" in said(capsys, 0, "resume", campaign)[0]
    assert "is not paused: it is already sending" in said(capsys, 0, "resume", campaign)[0]


def test_what_is_in_hand_is_said_and_the_exit_code_is_1(db: Db, home: Settings, campaign: int, capsys: Said) -> None:
    assert lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    out, err = said(capsys, 1, "pause", campaign, "--wait", "0.1")
    assert "is paused" in out
    assert "100 recipients in hand yet (1 batches)" in err
    assert f"campaigns pause {campaign} --wait 60" in err
    checked, watched = shown(db, home, campaign)
    assert "100 in hand yet" in checked
    assert "100 in hand yet" in watched
    out, err = said(capsys, 1, "cancel", campaign, "--wait", "0")
    assert "is cancelled" in out
    assert "100 recipients in hand yet" in err
    assert db.rows("SELECT state, COUNT(*) FROM recipients GROUP BY state ORDER BY state") == [
        ("pending", 100), ("skipped", 50),
    ]  # fmt: skip


def test_a_cancelled_campaign_says_what_became_of_it(db: Db, home: Settings, campaign: int, capsys: Said) -> None:
    assert "is cancelled" in said(capsys, 0, "cancel", campaign)[0]
    assert "is already cancelled" in said(capsys, 0, "cancel", campaign)[0]
    checked, watched = shown(db, home, campaign)
    assert "it stays cancelled" in checked
    assert f"campaign {campaign} cancelled 100.0% 150/150 sent=0 failed=0 skipped=150" in watched
    _, err = said(capsys, 1, "pause", campaign)
    assert "is cancelled, and stays so" in err
    assert "cancelled at 20" in said(capsys, 0, "recipients", campaign, "--state", "skipped")[0]


def test_a_scheduled_one_says_when_it_starts(db: Db, home: Settings, capsys: Said) -> None:
    campaign_id, now = draft(db, ["all"]), db.now_ms()
    schedule_campaign(db, campaign_id, now + 7_200_000, now)
    said(capsys, 0, "pause", campaign_id)
    assert "is scheduled again; it starts at 20" in said(capsys, 0, "resume", campaign_id)[0]
    said(capsys, 0, "pause", campaign_id)
    Campaign.update(scheduled_at=now - 1000).execute()
    assert "it starts at the next minute" in said(capsys, 0, "resume", campaign_id)[0]


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "1e9"])
def test_an_impossible_wait_is_refused_before_anything_is_done(campaign: int, wait: str, capsys: Said) -> None:
    _, err = said(capsys, 2, "pause", campaign, f"--wait={wait}")
    assert "--wait=" in err
    assert find_campaign(campaign).status == "sending"
