"""The shape of the project: imports point one way, commands explain themselves, files stay short."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli import main as mailcrew
from app.config import ROOT, TABLE

#: The levels of docs, lowest first. A module may import what stands below it.
LEVELS = (
    {"app.addresses", "app.clock", "app.errors", "app.events"},
    {"app.setting_values"},
    {"app.config", "app.instants"},
    {"app.db", "app.migrations", "app.secrets"},
    {"app.models"},
    {"app.mail", "app.queues"},
    {"app.campaigns", "app.lists", "app.schedules", "app.scaling", "app.workers"},
    {"app.watch"},
    {"app.cli", "app.web", "actors"},
)
LEVEL_OF = {unit: level for level, units in enumerate(LEVELS) for unit in units}

#: Siblings that may import each other after all, and why.
SIBLINGS: dict[tuple[str, str], str] = {
    ("app.events", "app.errors"): "both are leaves",
}

#: Loaded by name at run time, which the imports do not show.
BY_NAME: dict[tuple[str, str], str] = {
    ("app.workers", "actors"): "a worker loads the actors that its command line names",
}

#: Modules that may be longer than the rest, and why.
LONG: dict[str, str] = {}
LONGEST = 350


def unit_of(module: str) -> str:
    """app.mail.servers → app.mail; actors.periodic → actors."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "app" else parts[0]


def imported(tree: ast.Module, package: str) -> Iterator[tuple[str, bool]]:
    """The modules a file imports, wherever in it, and whether only by name at run time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            yield ".".join([*above, *([node.module] if node.module else [])]), False
        elif isinstance(node, ast.ImportFrom) and node.module == "app":
            yield from ((f"app.{alias.name}", False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, False
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, True


def wrong_arrows(root: Path) -> list[str]:
    """Every import in a tree that points up, or sideways without being listed."""
    wrong = []
    for top in ("app", "actors"):
        for path in sorted((root / top).rglob("*.py")):
            relative = path.relative_to(root).with_suffix("")
            module = ".".join(relative.parts).removesuffix(".__init__")
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            here = unit_of(module)
            for name, by_name in imported(ast.parse(path.read_text()), package):
                there = unit_of(name)
                if name.split(".")[0] not in ("app", "actors", "bin", "tests", "bench") or there in (here, "app"):
                    continue
                if by_name and (here, there) in BY_NAME:
                    continue
                if there not in LEVEL_OF or here not in LEVEL_OF:
                    wrong.append(f"{module} imports {name}: one of them has no level in {Path(__file__).name}")
                elif LEVEL_OF[there] >= LEVEL_OF[here] and (here, there) not in SIBLINGS:
                    wrong.append(f"{module} imports {name}")
    return wrong


def test_imports_point_one_way() -> None:
    assert wrong_arrows(ROOT) == []


def test_no_exception_is_listed_that_nobody_needs() -> None:
    pairs = set()
    for path in (ROOT / "app").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        pairs |= {(unit_of(module), unit_of(name)) for name, _ in imported(ast.parse(path.read_text()), module)}
    assert [pair for pair in BY_NAME if pair not in pairs] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("app/mail/a.py", "from app.campaigns.sweep import sweep"),
        ("app/mail/a.py", "from app.queues import broker"),
        ("app/config.py", "import app.db"),
        ("app/campaigns/a.py", "def f():\n    from app.scaling import table"),
        ("app/campaigns/a.py", "from app import workers"),
        ("app/campaigns/a.py", "from ..cli import main"),
        ("app/workers/a.py", "from actors import campaigns"),
        ("app/campaigns/a.py", "import importlib\nimportlib.import_module('actors.campaigns')"),
        ("app/cli/a.py", "import actors.broker"),
        ("app/errors.py", "from app.config import ROOT"),
        ("app/mail/a.py", "from tests.sending import draft"),
        ("actors/a.py", "from app.web import views"),
        ("app/surprise/a.py", "from app.config import ROOT"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, path: str, line: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(line + "\n")
    assert len(wrong_arrows(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("app/cli/a.py", "from app.campaigns.sweep import sweep"),
        ("app/mail/a.py", "from app.models.tables import Server\nfrom app.mail import b\nfrom . import c\nimport re"),
        ("app/workers/a.py", "import importlib\nimportlib.import_module('actors.broker')"),
        ("actors/a.py", "from app.workers.loop import WorkerLoop"),
    ],
)
def test_a_right_arrow_is_none_of_them(tmp_path: Path, path: str, line: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(line + "\n")
    assert wrong_arrows(tmp_path) == []


def sources(*tops: str) -> list[Path]:
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def test_only_the_command_line_prints() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("app", "actors")
        if ROOT / "app" / "cli" not in path.parents
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_no_module_is_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sources("app", "actors", "tests", "bench")
    }
    assert {name: count for name, count in lengths.items() if count > LONGEST and name not in LONG} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources("app", "actors", "tests", "bench")
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_supervisor_holds_configuration_only() -> None:
    # A package of this name would stand before the installed one for everything started from the root.
    assert [path.name for path in (ROOT / "supervisor").rglob("*") if path.suffix == ".py"] == []


def test_every_setting_is_documented() -> None:
    readme = ROOT / "README.md"
    pages = [path for path in (readme, *(ROOT / "docs").glob("**/*.md")) if path.is_file()]
    if not pages:
        pytest.skip("there is no documentation yet")
    assert readme.is_file()
    text = "\n".join(page.read_text() for page in pages)
    assert [setting.name for setting in TABLE if setting.name not in text] == []


def commands() -> list[Path]:
    return sorted(path for path in (ROOT / "bin").iterdir() if path.is_file() and not path.name.startswith("."))


@pytest.mark.parametrize("command", commands(), ids=lambda path: path.name)
def test_every_command_shows_an_example_of_itself(command: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(command), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=100,
        env={**os.environ, "MAILCREW_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "example" in done.stdout
    assert done.stderr == ""
    assert not (tmp_path / "home").exists(), "asking for help changes nothing"


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers at the ends of the tree of subcommands."""
    choices = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not choices:
        yield parser
    for one in choices:
        for child in one.values():
            yield from leaves(child)


def test_every_subcommand_has_an_example() -> None:
    parsers = list(leaves(mailcrew.make_parser()))
    assert len(parsers) > 40
    without = [leaf.prog for leaf in parsers if "example: bin/" not in " ".join(leaf.format_help().split())]
    assert without == []


def test_a_command_loads_its_own_group_alone() -> None:
    alone = {leaf.prog for leaf in leaves(mailcrew.make_parser(["tokens", "create", "curl"]))}
    assert alone == {leaf.prog for leaf in leaves(mailcrew.make_parser()) if leaf.prog.startswith("mailcrew tokens ")}
