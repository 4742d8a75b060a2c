"""Rendering is pure: the same table and settings give the same text, kept in tests/golden.

After a change on purpose: GOLDEN=write bin/test tests/test_render.py, then read the difference.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from app.config import ROOT, Settings, read_settings
from app.errors import Refused, UsageError
from app.scaling.files import write_files
from app.scaling.render import TEMPLATES, Machine, Renderer
from app.scaling.table import load_table, parse_table

GOLDEN = Path(__file__).parent / "golden"
SHIPPED = {name: (ROOT / "supervisor" / f"{name}.template").read_text() for name in TEMPLATES}
MACHINE = Machine(
    python=Path("/opt/mailcrew/.venv/bin/python"),
    root=Path("/opt/mailcrew"),
    redis_server=Path("/usr/bin/redis-server"),
    is_root=False,
)


def settings_with(home: str = "/srv/mail 100%", **environ: str) -> Settings:
    return read_settings({"MAILCREW_HOME": home, **environ}, root=Path("/nonexistent"))


def render(text: str, settings: Settings | None = None, stopped: frozenset[str] = frozenset()) -> dict[str, str]:
    renderer = Renderer(SHIPPED, settings or settings_with(), MACHINE)
    return renderer.all(parse_table(text), stopped)


def program(text: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return dict(parser.items(parser.sections()[0]))


def test_the_shipped_table_renders_as_in_the_golden_files() -> None:
    files = Renderer(SHIPPED, settings_with(), MACHINE).all(load_table(ROOT / "supervisor" / "queues.toml"))

    if os.environ.get("GOLDEN") == "write":
        for old in GOLDEN.rglob("*.conf"):
            old.unlink()
        for name, text in files.items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(text)
    golden = {str(path.relative_to(GOLDEN)): path.read_text() for path in GOLDEN.rglob("*.conf")}
    assert files == golden


def test_no_program_is_signalled_as_a_group() -> None:
    files = Renderer(SHIPPED, settings_with(), MACHINE).all(load_table(ROOT / "supervisor" / "queues.toml"))

    for name, text in files.items():
        if name.startswith("conf.d/"):
            assert "stopasgroup" not in program(text)
            assert program(text)["killasgroup"] == "true"
            assert program(text)["autorestart"] == "true"


@pytest.mark.parametrize(
    ("timeout", "grace", "wait"), [(60, 120, 135), (300, 120, 325), (110, 120, 135), (111, 120, 136), (5, 1, 30)]
)
def test_supervisord_waits_longer_than_a_worker_may_take_to_stop(timeout: int, grace: int, wait: int) -> None:
    text = f'[[queue]]\nname = "q"\ntimeout = {timeout}'

    files = render(text, settings_with(STOP_GRACE_SECONDS=str(grace)))

    assert program(files["conf.d/q.conf"])["stopwaitsecs"] == str(wait)


def test_the_command_line_names_queues_and_program_so_that_pgrep_finds_them() -> None:
    files = render('[[queue]]\nname = "fast"\nqueues = ["high", "low"]')

    command = program(files["conf.d/fast.conf"])["command"]
    assert "/bin/worker --queues high,low --name %(program_name)s_%(process_num)02d --threads 1" in command


def test_a_less_important_queue_is_niced_and_an_important_one_is_not() -> None:
    files = render('[[queue]]\nname = "a"\npriority = 300\n[[queue]]\nname = "b"\npriority = 200')

    assert program(files["conf.d/a.conf"])["command"].startswith("nice -n 5 /opt/mailcrew/.venv/bin/python ")
    assert program(files["conf.d/b.conf"])["command"].startswith("/opt/mailcrew/.venv/bin/python ")


def test_modules_are_passed_on_only_when_the_table_names_some() -> None:
    files = render('[[queue]]\nname = "a"\nmodules = ["actors.x", "actors.y"]\n[[queue]]\nname = "b"')

    assert program(files["conf.d/a.conf"])["command"].endswith(" --modules actors.x,actors.y")
    assert "--modules" not in files["conf.d/b.conf"]


def test_a_group_that_a_person_stopped_does_not_start_by_itself() -> None:
    files = render('[[queue]]\nname = "a"\n[[queue]]\nname = "b"', stopped=frozenset({"a"}))

    assert program(files["conf.d/a.conf"])["autostart"] == "false"
    assert program(files["conf.d/b.conf"])["autostart"] == "true"


def test_with_a_redis_of_ones_own_none_is_embedded() -> None:
    settings = settings_with(REDIS_URL="redis://example.org/1")
    machine = Machine(MACHINE.python, MACHINE.root, None, is_root=False)

    files = Renderer(SHIPPED, settings, machine).all(load_table(ROOT / "supervisor" / "queues.toml"))

    assert "redis.conf" not in files
    assert "conf.d/redis.conf" not in files


def test_a_slot_of_one_worker_serves_its_own_queue() -> None:
    table = load_table(ROOT / "supervisor" / "queues.toml")
    send = table.queue("send")
    assert send is not None

    text = Renderer(SHIPPED, settings_with(), MACHINE).worker(send, "campaign_18-1", 1, queues=("campaign_18",))

    assert "[program:campaign_18-1]" in text
    assert "--queues campaign_18 --name " in text


def test_as_root_the_user_is_said_aloud() -> None:
    machine = Machine(MACHINE.python, MACHINE.root, MACHINE.redis_server, is_root=True)

    files = Renderer(SHIPPED, settings_with(), machine).all(parse_table('[[queue]]\nname = "a"'))

    assert "\nuser=root\n" in files["supervisord.conf"]


@pytest.mark.parametrize("home", ["/srv/a;b", "/srv/a#b", '/srv/a"b', "/srv/a[b]", "/srv/a*", "/srv/a\nb"])
def test_a_path_that_supervisord_would_misread_is_refused(home: str) -> None:
    with pytest.raises(Refused, match="in a path"):
        render('[[queue]]\nname = "a"', settings_with(home))


def test_a_template_with_an_unknown_placeholder_is_refused() -> None:
    templates = {**SHIPPED, "program.conf": "$wrong"}

    with pytest.raises(UsageError, match=r"program.conf.template: 'wrong'"):
        Renderer(templates, settings_with(), MACHINE).all(parse_table('[[queue]]\nname = "a"'))


def test_only_what_differs_is_written_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    write_files(tmp_path, {"conf.d/a.conf": "1", "conf.d/b.conf": "1"})
    before = (tmp_path / "conf.d/a.conf").stat()

    changes = write_files(tmp_path, {"conf.d/a.conf": "1", "conf.d/c.conf": "1"})

    assert (changes.written, changes.removed) == (("conf.d/c.conf",), ("conf.d/b.conf",))
    assert (tmp_path / "conf.d/a.conf").stat().st_ino == before.st_ino
    assert sorted(p.name for p in (tmp_path / "conf.d").iterdir()) == ["a.conf", "c.conf"]


def test_the_slots_of_bursts_and_boosts_are_left_to_who_made_them(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    for name in ("send-burst-1", "campaign_18-2", "old"):
        (tmp_path / "conf.d" / f"{name}.conf").write_text("x")

    changes = write_files(tmp_path, {})

    assert changes.removed == ("conf.d/old.conf",)
