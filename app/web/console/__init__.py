"""The console: pages for people. Add one without touching another:

1. `pages/NAME.py`: `page = Page("NAME", nav=("machine", 50))`, or `under="OTHER"` when that one's place in the
   navigation is its own; it is found by being there. `@page.live("/NAME")` over a function that returns what the
   template shows (read only, made once a second for all viewers, no request in it: path and `query=(…)` arguments
   are handed in as text), or `@page.get` for what does not change by itself; `@page.post("/NAME/act")` over what a
   form does: it returns where to go (`page.done(path, word)`). Reading wants the scope read, forms want admin, unless
   `scope=` says otherwise; `@page.download` answers with a file.
2. `templates/NAME.html`: extends `page.html`, blocks `title`, `top`, `live`, `rest`; `_parts.html` has bars, badges,
   plots, buttons and empty states. Every form says `{{ csrf() }}`; no style or script
   attributes (the CSP forbids them).
3. `words/en/NAME.toml` and `words/zh/NAME.toml`, shown by `t("NAME.key", n=…)`; `nav` is its name in the navigation.
   Templates hold no words: `tests/test_console_words.py` looks.
4. What the page shows and does is also in the API: `app/web/NAME.py` with `@describes(…)` (see `app/web/openapi.py`).
5. `tests/test_console_NAME.py`: `logged_in`, `serving` and `window` of `tests/console.py`, as its neighbours do; look
   at the page in both widths, themes and languages.
"""

from __future__ import annotations

from app.web.console.frame import install

__all__ = ["install"]
