"""Every command of docs/runbook.md, run against a real stack, prints what the page shows."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dramatiq
import pytest

from app.config import ROOT
from app.queues.broker import make_broker
from tests.deployed import TABLE, SlowServer
from tests.home_stack import HomeStack, home_stack
from tests.ports import free_port
from tests.runbook import PAGE, Command, Section, matches, sections
from tests.services import need
from tests.smtp_faults import on, reply
from tests.smtp_server import SmtpServer
from tests.supervised import queue
from tests.working import eventually

pytestmark = pytest.mark.slow

SECTIONS = sections(PAGE.read_text())
#: Commands that only look may be asked again until they say what the page shows.
LOOKS = re.compile(
    r"bin/(supervisor-manager (check|status|logs|scale \w+$)|check-campaign|queue-manager --once --dry-run"
    r"|mailcrew (check|dead list|servers|db status))|redis-cli|tail|ps|pgrep|ls|cat|sqlite3"
)
SECONDS = 90.0
PEOPLE = 1000

STACK = (
    TABLE.replace("processes = 2\n", "processes = 2\nmax = 6\n")
    + queue("mail", 1)
    + """
[[service]]
name = "web"
command = "{python} {root}/bin/web"
priority = 800
"""
)


class Stage:
    """The stack that the commands run against, and each thing that the page calls given."""

    def __init__(self, stack: HomeStack, cleanup: ExitStack) -> None:
        self.stack = stack
        self._cleanup = cleanup
        self._sending = False
        self._taken: socket.socket | None = None
        (stack.home / "people.csv").write_text("email\n" + "".join(f"p{n}@example.com\n" for n in range(PEOPLE)))

    def prepare(self, given: str) -> None:
        GIVEN[given](self)

    def run(self, command: Command) -> tuple[int, str]:
        """The exit code and everything that the command printed."""
        done = subprocess.run(
            ["bash", "-c", command.line], cwd=ROOT, env=self.stack.environ, text=True, timeout=180,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def clear(self) -> None:
        """As it was before the section: the table, everything running, nobody else on the port."""
        self.set_table(STACK)
        if self._taken:
            self._taken.close()
            self._taken = None
        self.stack.run("supervisor-manager", "start")

    def set_table(self, text: str) -> None:
        (self.stack.home / "queues.toml").write_text(text)

    def change_table(self, text: str) -> None:
        self.set_table(text)
        self.stack.run("supervisor-manager", "update")

    def send_slowly(self) -> None:
        if self._sending:
            return
        server = self._cleanup.enter_context(SlowServer(pace=4.0))
        self._cleanup.callback(server.calm.set)
        run, mail = self.stack.run, self.stack.home / "mail.txt"
        mail.write_text("Hello\n")
        run("mailcrew", "lists", "import", str(self.stack.home / "people.csv"), "--list", "all")
        run("mailcrew", "servers", "add", "relay", "--host", "127.0.0.1", "--port", str(server.port))
        run("mailcrew", "campaigns", "create", "News", "--subject", "News", "--from", "a@example.com", "--list", "all",
            "--text", str(mail))  # fmt: skip
        run("mailcrew", "campaigns", "schedule", "1")
        eventually(lambda: bool(server.accepted_at), "the first mail", seconds=120)
        self._sending = True

    def send_to_an_old_list(self) -> None:
        server = self._cleanup.enter_context(SmtpServer(plan=on("RCPT", reply("550 5.1.1 no such user"))))
        old = self.stack.home / "old.csv"
        old.write_text("email\n" + "".join(f"old{n}@example.com\n" for n in range(PEOPLE)))
        run, mail = self.stack.run, self.stack.home / "mail.txt"
        run("mailcrew", "lists", "import", str(old), "--list", "old")
        run("mailcrew", "servers", "add", "strict", "--host", "127.0.0.1", "--port", str(server.port))
        run("mailcrew", "campaigns", "create", "Old list", "--subject", "News", "--from", "b@example.com",
            "--list", "old", "--server", "strict", "--text", str(mail))  # fmt: skip
        run("mailcrew", "campaigns", "schedule", "2")

    def take_port(self) -> None:
        self.stack.run("supervisor-manager", "stop", "web")
        port = int(self.stack.environ["HTTP_BIND"].rpartition(":")[2])
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        self._taken = taken
        self.stack.run("supervisor-manager", "start", "web")

    def stop(self, *name: str) -> None:
        self.stack.run("supervisor-manager", "stop", *name)

    def leave_tasks(self) -> None:
        self.stack.run("supervisor-manager", "stop", "mail")
        broker = make_broker(self.stack.settings.redis_url)
        broker.declare_queue("mail")
        for _ in range(3):
            broker.enqueue(dramatiq.Message("mail", "nobody_knows", (), {}, {}))
        broker.close()

    def break_archive(self) -> None:
        whole = Path(self.stack.run("supervisor-manager", "backup").partition(": ")[0])
        (self.stack.home / "broken.tar.gz").write_bytes(whole.read_bytes()[:-500])


GIVEN: dict[str, Callable[[Stage], None]] = {
    "a campaign is being sent to a slow server": Stage.send_slowly,
    "a campaign to an old list has paused itself": Stage.send_to_an_old_list,
    "the table names a module that does not exist for expand": lambda stage: stage.change_table(
        STACK.replace('name = "expand"\n', 'name = "expand"\nmodules = ["actors.nothing"]\n')
    ),
    "the table is right again": lambda stage: stage.set_table(STACK),
    "the table has a mistake": lambda stage: stage.set_table(STACK.replace("threads = 4", "threads = 0")),
    "the table was changed": lambda stage: stage.change_table(STACK.replace("threads = 4", "threads = 2")),
    "somebody else has the port of web": Stage.take_port,
    "a worker of mail holds more memory than it may": lambda stage: stage.change_table(
        STACK.replace('name = "mail"\n', 'name = "mail"\nmemory = 64\nmodules = ["tests.hungry_actors"]\n')
    ),
    "state is open to others": lambda stage: stage.stack.settings.state.chmod(0o755),
    "Redis is down": lambda stage: stage.stop("redis"),
    "tasks wait in mail and nobody works": Stage.leave_tasks,
    "the scheduler is stopped": lambda stage: stage.stop("scheduler"),
    "a broken archive lies in the home": Stage.break_archive,
    "everything is stopped": Stage.stop,
}


@pytest.fixture(scope="module")
def stage(short_directory: Path) -> Iterator[Stage]:
    for program in ("redis-server", "redis-cli", "jq", "sqlite3", "pgrep"):
        need(program)
    bind = f"127.0.0.1:{free_port()}"
    with ExitStack() as cleanup:
        stack = cleanup.enter_context(home_stack(short_directory, STACK, HTTP_BIND=bind, SEND_BATCH_SIZE="20"))
        stack.run("supervisor-manager", "start")
        yield Stage(stack, cleanup)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_every_command_prints_what_the_page_shows(stage: Stage, section: Section) -> None:
    stage.clear()
    for step in section.steps:
        if isinstance(step, str):
            stage.prepare(step)
            continue
        deadline = time.monotonic() + (SECONDS if LOOKS.match(step.line) else 0)
        while True:
            code, said = stage.run(step)
            if code == step.code and matches(step.printed, said, stage.stack.home):
                break
            seen = f"$ {step.line}\nexit {code}, not {step.code}\n{said}\nnot\n{step.printed}"
            assert time.monotonic() < deadline, seen
            time.sleep(1)


def test_all_that_is_given_is_used_and_known() -> None:
    named = {step for section in SECTIONS for step in section.steps if isinstance(step, str)}
    assert named == set(GIVEN)


def test_every_console_block_of_the_page_is_run() -> None:
    shown = re.findall(r"^\$ (.*?)(?:\s+# exit \d+)?$", PAGE.read_text(), re.MULTILINE)
    assert shown == [step.line for section in SECTIONS for step in section.steps if isinstance(step, Command)]


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        ("send: 6 workers\n", "send: 16 workers\n", True),
        ("send: 6 workers\n", "mail: 6 workers\n", False),
        ("first\n…\nlast 1.5 s\n", "first\na\nb\nlast 22 s\n", True),
        ("first\n…\n", "second\nfirst\n", False),
        ("stopped\n", "stopped\nand more\n", False),
        ("written: /var/lib/mailcrew/x\n", "written: /h/x\n", True),
        ("pid …: up\n", "pid 7 (old): down\n", False),
        ("", "anything\n", False),
        ("3\n", "0\n", False),
        ("  7 a   b\n", "17 a b\n", True),
        ("a b\n", "ab\n", False),
    ],
)
def test_what_counts_as_the_same(expected: str, said: str, same: bool) -> None:
    assert matches(expected, said, Path("/h")) is same
