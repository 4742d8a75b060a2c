"""Make the pictures: seed a stack, let it live, look at each page. Names on the command line: those only."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from app.config import ROOT
from tests.console import chromium, window
from tests.console_stack import ConsoleStack, Receiver, console_stack
from tests.screens.png import smaller
from tests.screens.seed import seed
from tests.screens.shots import SHOTS, Shot

FOLDER = ROOT / "docs" / "screens"
#: Nobody looks at more of a page in a document.
HIGHEST = 1300


def main() -> int:
    wanted = [shot for shot in SHOTS if not sys.argv[1:] or {shot.page, shot.name, shot.file} & set(sys.argv[1:])]
    directory = Path(tempfile.mkdtemp(prefix="mc-screens-"))
    try:
        with (
            Receiver(pace=0.002) as fast,
            Receiver(pace=0.7) as slow,
            console_stack(directory, (ROOT / "supervisor" / "queues.toml").read_text()) as stack,
            chromium() as browser,
        ):
            seed(stack, fast, slow)
            for shot in wanted:
                _take(stack, browser, shot)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _take(stack: ConsoleStack, browser: Browser, shot: Shot) -> None:
    with window(browser, stack.site, stack.settings, shot.size, shot.language, shot.dark, "Europe/Berlin") as seen:
        page = seen.visit(shot.path)
        for plot in page.locator(".plot").all():
            expect(plot.locator("canvas, .nothing:not([hidden])").first).to_be_visible()
        if page.locator(".frame iframe").count():
            expect(page.locator(".about strong")).to_be_visible()
        _whole(page, shot)
        FOLDER.mkdir(exist_ok=True)
        picture = smaller(page.screenshot())
        (FOLDER / shot.file).write_bytes(picture)
        print(f"{shot.file:36} {len(picture) // 1024:4} KB  {'; '.join(seen.errors)}", flush=True)


def _whole(page: Page, shot: Shot) -> None:
    """As high as the page: what stays at the side of it then reaches the bottom."""
    height = int(page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": shot.size[0], "height": max(min(height, HIGHEST), shot.size[1])})


if __name__ == "__main__":
    sys.exit(main())
