"""A built site in a real browser with the network cut, and what was seen of each page.

A page is loaded once for each width and theme; every gate of the site reads the same
observation.
"""

from __future__ import annotations

import os
import threading
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from playwright.sync_api import sync_playwright

from gates.core import ROOT
from run import find_browser
from serve import make_server

#: where `make` puts the site
BUILT = ROOT / "_build" / "html"
WIDE, NARROW = 1280, 390
HEIGHT = 900
AT_ONCE = 3  # pages open at a time: one that axe reads on each core, one that loads
#: no name resolves but this machine's own address: what a page asks of others fails, and is seen
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
#: complaints of the browser itself that no page causes
NOT_OURS = ("[Violation]",)

_AFTER_LOAD = """() => ({
    overflow: document.documentElement.scrollWidth - innerWidth,
    wide: [...document.body.querySelectorAll('*')].filter(e => {
        const box = e.getBoundingClientRect();
        if (box.right <= innerWidth + 1 || box.width == 0) return false;
        for (let p = e.parentElement; p && p != document.body; p = p.parentElement)
            if (getComputedStyle(p).overflowX != 'visible') return false;
        return true;
    }).slice(0, 3).map(e => e.outerHTML.slice(0, 120)),
    silent: [...document.querySelectorAll('img:not([alt]), svg')].filter(e =>
        !e.closest('[aria-hidden=true]') && !(e.tagName == 'svg' &&
            (e.querySelector(':scope > title') ||
             e.closest('svg[aria-label], [role=img][aria-label], [role=img][aria-labelledby]')))
        ).map(e => e.outerHTML.slice(0, 120)),
    empty: [...document.querySelectorAll('main img[alt=""]')].map(e => e.outerHTML.slice(0, 120)),
})"""

#: Coloured code is thousands of little elements of a few looks, and axe's look at contrast takes
#: most of its time on them. One of each look stays an element; the others become plain text.
_ONE_OF_EACH_LOOK_IN_CODE = """() => {
    const look = element => {
        const style = getComputedStyle(element);
        return [style.color, style.backgroundColor, style.backgroundImage, style.opacity,
                style.fontSize, style.fontWeight, style.textShadow].join();
    };
    const behind = new Map([[null, '']]);  // the looks of an element and of all around it
    const looks = element => {
        if (!behind.has(element))
            behind.set(element, look(element) + '|' + looks(element.parentElement));
        return behind.get(element);
    };
    const seen = new Set(), again = [];
    for (const word of document.querySelectorAll('.highlight pre span')) {
        const plain = [...word.attributes].every(a => a.name == 'class' || a.name == 'style');
        if (word.children.length || !plain) continue;
        seen.has(looks(word)) ? again.push(word) : seen.add(looks(word));
    }
    again.forEach(word => word.replaceWith(word.textContent));
}"""


@dataclass
class Observation:
    """What loading one page at one width in one theme showed."""

    page: str
    width: int
    theme: str
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    overflow: dict[int, tuple[int, list[str]]] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    axe: list[str] = field(default_factory=list)
    rules_run: int = 0


def pages_in(folder: Path) -> list[str]:
    """Every HTML page in a folder of built pages, in the order of their names."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.html")
        if "_static" not in path.parts and "_sources" not in path.parts
    )


@cache
def axe_source() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


class Chromium:
    """One browser for all tests of the site."""

    def __init__(self):
        path = os.environ.get("CHROMIUM") or find_browser()
        if not path:
            raise FileNotFoundError("no Chromium or Chrome: set CHROMIUM to its path")
        self._playwright = sync_playwright().start()
        self.browser = self._playwright.chromium.launch(executable_path=path, args=FLAGS)
        self._contexts: dict[tuple, object] = {}

    def context(self, width: int, theme: str = "light", **options):
        """A context that is kept; with ``options`` a fresh one, to be closed by the caller."""
        wanted = {"viewport": {"width": width, "height": HEIGHT}, "color_scheme": theme, **options}
        if options:
            return self.browser.new_context(**wanted)
        if (width, theme) not in self._contexts:
            self._contexts[width, theme] = self.browser.new_context(**wanted)
        return self._contexts[width, theme]

    def close(self) -> None:
        self.browser.close()
        self._playwright.stop()


class Site:
    """A folder of built pages, served on the loopback address."""

    def __init__(self, folder: Path, chromium: Chromium):
        self.folder = folder
        self.chromium = chromium
        self._server = make_server(folder)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._only: str | None = None
        self._seen: dict[tuple[str, int, str], Observation] = {}
        self.figures: dict[str, str] = {}  # measured on the way, for the report

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def only(self, name: str) -> Site:
        """The same site, of which a gate sees one page; what is observed is kept for all."""
        if name not in self.pages:
            raise ValueError(f"name: {name!r} is no page of this site")
        one = copy(self)
        one._only = name
        return one

    @property
    def pages(self) -> list[str]:
        """Every HTML page, the search and index pages with them."""
        if self._only is not None:
            return [self._only]
        found = pages_in(self.folder)
        if not found:
            raise FileNotFoundError(f"{self.folder}: no page here; nothing would be proved")
        return found

    def observe(self, name: str, width: int = WIDE, theme: str = "light") -> Observation:
        """Load a page once and note all that the gates ask about."""
        self.observe_all([(name, width, theme)])
        return self._seen[name, width, theme]

    def observe_all(self, wanted: list[tuple[str, int, str]]) -> None:
        """Load several pages, a few at a time: while axe reads one, the next ones load."""
        waiting = [key for key in dict.fromkeys(wanted) if key not in self._seen]
        opened = []
        while waiting or opened:
            while waiting and len(opened) < AT_ONCE:
                opened.append(self._open(*waiting.pop(0)))
            seen, tab = opened.pop(0)
            try:
                self._read(seen, tab)
            finally:
                tab.close()
            self._seen[seen.page, seen.width, seen.theme] = seen

    def _open(self, name: str, width: int, theme: str):
        """Load a page, look at it, wide pages on a phone too, and start axe on it."""
        seen = Observation(name, width, theme)
        tab = self.chromium.context(width, theme).new_page()
        tab.on("console", lambda m: self._note_console(seen, m))
        tab.on("pageerror", lambda error: seen.errors.append(str(error)))
        tab.on("request", lambda r: self._is_foreign(r.url) and seen.foreign.append(r.url))
        tab.on("requestfailed", lambda r: seen.failed.append(f"{r.url} ({r.failure})"))
        tab.on("response", lambda r: self._note_response(seen, r))
        tab.goto(f"{self.address}/{name}", wait_until="load")
        tab.wait_for_timeout(150)  # module scripts run after load
        found = tab.evaluate(_AFTER_LOAD)
        seen.overflow[width] = (found["overflow"], found["wide"])
        seen.silent = found["silent"] + found["empty"]
        if (width, theme) == (WIDE, "light"):
            tab.set_viewport_size({"width": NARROW, "height": HEIGHT})
            found = tab.evaluate(_AFTER_LOAD)
            seen.overflow[NARROW] = (found["overflow"], found["wide"])
            tab.set_viewport_size({"width": width, "height": HEIGHT})
        tab.evaluate(_ONE_OF_EACH_LOOK_IN_CODE)
        tab.evaluate(axe_source())
        tab.evaluate("() => { window.found = axe.run(document, {resultTypes: ['violations']}); }")
        return seen, tab

    def _read(self, seen: Observation, tab) -> None:
        """Wait for axe and note what it found."""
        result = tab.evaluate("window.found")
        seen.rules_run = len(result["passes"]) + len(result["violations"])
        for violation in result["violations"]:
            nodes = violation["nodes"]
            seen.axe.append(
                f"{violation['id']} ({violation['impact']}, {len(nodes)} places): "
                f"{violation['help']}; such as {nodes[0]['html'][:160]}"
            )

    @staticmethod
    def _note_console(seen: Observation, message) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(NOT_OURS):
            seen.console.append(f"{message.type}: {message.text}")

    @staticmethod
    def _note_response(seen: Observation, response) -> None:
        if response.status >= 400:
            seen.failed.append(f"{response.url} ({response.status})")

    def _is_foreign(self, url: str) -> bool:
        return not url.startswith((self.address + "/", "data:", "blob:", "about:"))
