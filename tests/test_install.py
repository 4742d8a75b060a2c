"""`bin/supervisor-manager install`: into an empty directory, started there; for a real machine only looked at."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.config import ROOT
from app.scaling.install import pointed_at
from app.scaling.processes import processes_of
from tests.deployed import TABLE, kill_all
from tests.ports import free_port
from tests.services import need
from tests.working import eventually

COMMAND = str(ROOT / "bin" / "supervisor-manager")
OURS = {"MAILCREW_HOME", "DATABASE_URL", "REDIS_URL", "QUEUES_FILE"}


@dataclass(frozen=True)
class Place:
    """A directory that stands for a machine."""

    top: Path

    @property
    def home(self) -> Path:
        return self.top / "var/lib/mailcrew"

    @property
    def environ(self) -> dict[str, str]:
        # The home of the one who installs has nothing to do with that of the service.
        found = {name: value for name, value in os.environ.items() if name not in OURS}
        return {**found, "MAILCREW_HOME": str(self.top.parent / "nobody's")}

    def install(self, *options: str, path: str | None = None, code: int = 0) -> str:
        environ = {**self.environ, **({"PATH": path} if path else {})}
        done = subprocess.run([COMMAND, "install", *options], env=environ, text=True, capture_output=True, timeout=100)
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def install_here(self, path: str | None = None) -> str:
        return self.install("--prefix", str(self.top), path=path)

    def run(self, *words: str, code: int = 0) -> str:
        """A command without any variable of ours, as an operator's shell has none."""
        environ = {name: value for name, value in self.environ.items() if name not in OURS}
        done = subprocess.run(words, env=environ, cwd="/", text=True, capture_output=True, timeout=200)
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def place(short_directory: Path) -> Iterator[Place]:
    made = Place(Path(tempfile.mkdtemp(dir=short_directory)) / "machine")
    yield made
    kill_all(processes_of(made.home))


def tree(top: Path) -> dict[str, str]:
    """Every path below it with kind, mode, and what is in it."""
    found = {}
    for path in sorted(top.rglob("*")):
        what = path.lstat()
        if path.is_symlink():
            text = str(path.readlink())
        else:
            text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(top))] = f"{stat.filemode(what.st_mode)} {what.st_mtime_ns} {text}"
    return found


def only(*programs: str, directory: Path) -> str:
    """A PATH with what the launcher needs and these programs."""
    directory.mkdir()
    for name in ("bash", "dirname", "readlink", "env"):
        (directory / name).symlink_to(need(name))
    for name in programs:
        (directory / name).symlink_to(need("true"))
    return str(directory)


def printed(said: str, label: str) -> list[str]:
    """The words of the command that install told."""
    found = re.search(rf"^{label}: +(.*)$", said, re.MULTILINE)
    assert found, said
    return shlex.split(found[1])


def test_what_was_installed_below_a_directory_can_be_started(place: Place) -> None:
    need("redis-server")
    said = place.install_here()
    table = place.home / "queues.toml"
    table.write_text(TABLE)
    (place.home / ".env").write_text(f"HTTP_BIND=127.0.0.1:{free_port()}\nQUEUES_FILE={table}\n")

    assert "everything runs" in place.run(*printed(said, "start it"))

    control = printed(said, "look")
    assert control[0] == "supervisorctl"
    assert control[2] == str(place.top / "etc/supervisor/supervisord.conf")
    lines = place.run(str(place.top / "usr/local/bin/supervisorctl"), *control[1:]).splitlines()
    assert {line.split()[0] for line in lines} == {
        "redis", "periodic:periodic_00", "expand:expand_00", "send:send_00", "send:send_01", "scheduler",
    }  # fmt: skip
    assert {line.split()[1] for line in lines} == {"RUNNING"}
    assert (place.top / "etc/supervisor/conf.d/mailcrew/send.conf").is_file()

    minutely = next(
        line for line in (place.top / "etc/cron.d/mailcrew").read_text().splitlines() if line.startswith("* ")
    )
    *when, user, command = minutely.split(maxsplit=6)
    assert when == ["*"] * 5
    assert place.run("id", "-un").strip() == user
    log = place.home / "logs" / "check.log"

    def fine() -> bool:
        # As cron runs it: sh, and hardly a variable.
        done = subprocess.run(["/bin/sh", "-c", command], env={"PATH": "/usr/bin:/bin"}, capture_output=True, cwd="/")
        assert done.stdout == b""
        return done.returncode == 0

    eventually(fine, "a check without an alert")
    assert re.match(r"OK \d+ processes run", log.read_text())

    launcher = str(place.top / "usr/local/bin/mailcrew")
    assert place.run(launcher, "lists", "show").startswith("no lists yet")
    assert "stopped" in place.run(launcher, "supervisor-manager", "stop")
    assert not fine()
    assert log.read_text().startswith("ALERT: ")


def test_secrets_are_closed_and_logs_are_closed_to_strangers(place: Place) -> None:
    place.install_here()

    modes = {name: stat.S_IMODE((place.home / name).stat().st_mode) for name in (".", "state", "logs", "redis", ".env")}
    assert modes == {".": 0o750, "state": 0o700, "logs": 0o750, "redis": 0o700, ".env": 0o600}


def test_installing_again_changes_nothing(place: Place) -> None:
    place.install_here()
    before = tree(place.top)

    assert "nothing to change" in place.install_here()

    assert tree(place.top) == before


def test_a_file_that_a_person_changed_is_kept_with_the_date(place: Place) -> None:
    place.install_here()
    cron, settings = place.top / "etc/cron.d/mailcrew", place.home / ".env"
    ours = cron.read_text()
    cron.write_text("# mine\n")
    settings.write_text("LEASE_SECONDS=40\n")

    said = place.install_here()

    kept = list((place.top / "var/backups/mailcrew").glob("20*/etc/cron.d/mailcrew"))
    assert [path.read_text() for path in kept] == ["# mine\n"]
    assert f"kept: {cron} differed from what install writes; it is now {kept[0]}" in said
    assert cron.read_text() == ours
    assert settings.read_text() == "LEASE_SECONDS=40\n", "this one is a person's to write"
    assert [path.name for path in cron.parent.iterdir()] == ["mailcrew"], "cron would run what lies beside it"


def test_a_dry_run_prints_every_file_and_changes_none(place: Place) -> None:
    place.top.mkdir()
    (place.top / "etc").mkdir()
    before = tree(place.top.parent)

    said = place.install("--dry-run", "--prefix", str(place.top))

    assert tree(place.top.parent) == before
    place.install_here()
    for path in sorted(place.top.rglob("*")):
        if path.is_file() and not path.is_symlink():
            assert str(path) in said
            for line in path.read_text().splitlines():
                assert f"  | {line}\n" in said


def test_a_dry_run_for_the_machine_itself_names_user_unit_and_packages(place: Place, tmp_path: Path) -> None:
    watched = [Path("/etc/cron.d"), Path("/etc/systemd/system"), Path("/usr/local/bin"), Path("/etc/passwd")]
    before = [tree(path) if path.is_dir() else path.stat().st_mtime_ns for path in watched]

    said = place.install("--dry-run")

    assert [tree(path) if path.is_dir() else path.stat().st_mtime_ns for path in watched] == before
    assert not Path("/var/lib/mailcrew").exists()
    assert "folder: /var/lib/mailcrew (mode 0750, owner mailcrew)" in said
    assert "file:   /etc/systemd/system/mailcrew.service" in said
    assert re.search(r"^run: .*useradd --system .*--home-dir /var/lib/mailcrew .*mailcrew$", said, re.MULTILINE)
    assert "* * * * * mailcrew /usr/local/bin/mailcrew supervisor-manager check" in said


@pytest.mark.parametrize("manager", ["dnf", "yum"])
def test_red_hat_has_its_own_places(place: Place, tmp_path: Path, manager: str) -> None:
    said = place.install_here(path=only(manager, directory=tmp_path / "bin"))

    assert (place.top / "etc/supervisord.conf").is_file()
    assert (place.top / "etc/supervisord.d/mailcrew").readlink() == place.home / "conf.d"
    assert (place.top / "usr/bin/mailcrew").is_file(), "sudo does not look into /usr/local/bin there"
    assert printed(said, "look")[2] == str(place.top / "etc/supervisord.conf")


def test_without_root_it_is_refused_before_anything_is_changed(place: Place) -> None:
    if os.getuid() != 0:
        assert "needs root" in place.install(code=1)
        return
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, COMMAND, "--help"], capture_output=True).returncode:
        pytest.skip("nobody may not run Python here")
    done = subprocess.run([*nobody, COMMAND, "install"], env=place.environ, text=True, capture_output=True)
    assert done.returncode == 1
    assert "needs root: sudo bin/supervisor-manager install" in done.stderr


def test_another_supervisord_of_this_machine_goes_on_being_plain_supervisorctls(place: Place) -> None:
    theirs = place.top / "etc/supervisor/supervisord.conf"
    (theirs.parent / "conf.d").mkdir(parents=True)
    theirs.write_text("[supervisord]\n[supervisorctl]\nserverurl=unix:///var/run/supervisor.sock\n")
    (theirs.parent / "conf.d" / "shop.conf").write_text("[program:shop]\ncommand=/bin/true\n")
    before = theirs.read_text()

    said = place.install_here()

    assert theirs.read_text() == before
    assert "another supervisord runs shop.conf here" in said
    assert f"supervisorctl -c {place.home}/supervisord.conf" in said


def test_a_distributions_supervisord_without_programs_lends_its_supervisorctl() -> None:
    debian = """; supervisor config file

[unix_http_server]
file=/var/run/supervisor.sock

[supervisord]
logfile=/var/log/supervisor/supervisord.log

[supervisorctl]
serverurl=unix:///var/run/supervisor.sock ; use a unix:// URL

[include]
files = /etc/supervisor/conf.d/*.conf
"""
    ours = pointed_at(debian, Path("/var/lib/mailcrew/run/super.sock"))

    assert ours == debian.replace(
        "serverurl=unix:///var/run/supervisor.sock ; use a unix:// URL",
        "serverurl=unix:///var/lib/mailcrew/run/super.sock",
    )
    assert pointed_at(ours, Path("/var/lib/mailcrew/run/super.sock")) == ours


@pytest.mark.parametrize("text", ["[supervisord]\n", "[supervisorctl]\nprompt=mine\n[supervisord]\n", ""])
def test_a_configuration_without_an_address_gets_ours(text: str) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(pointed_at(text, Path("/x/super.sock")))
    assert parser["supervisorctl"]["serverurl"] == "unix:///x/super.sock"
    assert set(parser.sections()) >= {line[1:-1] for line in text.splitlines() if line.startswith("[")}


def test_paths_with_spaces_and_percent_signs_survive(short_directory: Path) -> None:
    need("redis-server")
    place = Place(Path(tempfile.mkdtemp(dir=short_directory)) / "a b 50%")
    said = place.install_here()

    assert place.run(*printed(said, "commands")[:1], "mailcrew", "--help")
    minutely = next(
        line for line in (place.top / "etc/cron.d/mailcrew").read_text().splitlines() if line.startswith("* ")
    )
    # cron takes the backslash away.
    command = minutely.split(maxsplit=6)[6].replace(r"\%", "%")
    subprocess.run(["/bin/sh", "-c", command], env={"PATH": "/usr/bin:/bin"}, capture_output=True, cwd="/")
    assert (place.home / "logs/check.log").read_text().startswith("ALERT: ")


def test_the_unit_and_the_launcher_are_what_their_readers_accept(place: Place) -> None:
    place.install_here()
    unit, launcher = place.top / "etc/systemd/system/mailcrew.service", place.top / "usr/local/bin/mailcrew"

    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    subprocess.run([need("shellcheck"), launcher], check=True)
