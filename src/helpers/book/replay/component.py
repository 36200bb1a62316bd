"""Put a replay together as HTML: the first frame, every frame in words, and the record."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from helpers.book.quiz.component import squeeze
from helpers.book.replay.record import Run
from helpers.book.style import tokens_css

_HERE = Path(__file__).parent
_NOTE = "The replay appears when this cell is run or the notebook is trusted."


@cache
def engine() -> str:
    """Return the shared script without comments and idle spaces."""
    return squeeze((_HERE / "replay.js").read_text(encoding="utf-8"))


@cache
def style_sheet() -> str:
    """Return the shared style sheet: the palette, then the component's own rules."""
    text = (_HERE / "replay.css").read_text(encoding="utf-8")
    return tokens_css() + re.sub(r"/\*.*?\*/|\n", "", text)


class Replay:
    """One or several runs that a reader can step through; shows itself in a notebook.

    Made by :func:`replay`.

    Attributes
    ----------
    name : str
        ``data-mb-name`` on the page.
    runs : dict of str to Run
        By the name under which the reader chooses one.
    """

    def __init__(
        self,
        name: str,
        title: str,
        alt: str,
        runs: Mapping[str, Run],
        caption: str,
        counted: str,
        pause_ms: int,
    ) -> None:
        self.name = name
        self.title = title
        self.alt = alt
        self.runs = dict(runs)
        self.caption = caption
        self.counted = counted
        self.pause_ms = pause_ms

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the script needs."""
        return {
            "alt": self.alt,
            "counted": self.counted,
            "pause": self.pause_ms,
            "runs": [{"name": name, **run.record.to_data()} for name, run in self.runs.items()],
        }

    @cached_property
    def html(self) -> str:
        """The complete component."""
        runs = "".join(self._run(i, run) for i, run in enumerate(self.runs.values()))
        first = next(iter(self.runs.values()))
        caption = re.sub(r"\*(.+?)\*", r"<em>\1</em>", html.escape(self.caption))
        payload = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False)
        payload = payload.replace("<", "\\u003c")
        return (
            f'<style data-mb="replay">{style_sheet()}</style>'
            f'<script type="module" data-mb="replay">{engine()}</script>'
            f'<div class="mb mb-replay" data-mb-name="{self.name}" role="group" '
            f'data-lm-suppress-shortcuts="true" aria-label="{html.escape(self.title)}">'
            f'<p class="mb-y-title">{html.escape(self.title)}</p>'
            f'<p class="mb-y-note">{_NOTE}</p>'
            '<div class="mb-y-controls"></div>'
            f'<p class="mb-y-place">{html.escape(self.place(0))}</p>'
            f'<output aria-live="polite">{html.escape(first.says[0], quote=False)}</output>'
            f"{runs}"
            + (f'<p class="mb-y-caption">{caption}</p>' if caption else "")
            + '</div><script type="module">(globalThis.mbReplays??=[]).push('
            f'["{self.name}",{payload}]);globalThis.mbReplay?.()</script>'
        )

    def _run(self, number: int, run: Run) -> str:
        label = html.escape(f"{self.alt} Now: {run.says[0]}")
        words = "".join(f"<li>{html.escape(text, quote=False)}</li>" for text in run.says)
        hidden = " hidden" if number else ""
        return (
            f'<div class="mb-y-run"{hidden}>'
            f'<div class="mb-y-picture" role="img" aria-label="{label}">{run.html()}</div>'
            f"<details><summary>All of it in words</summary><ol>{words}</ol></details></div>"
        )

    def place(self, number: int, run: str | None = None) -> str:
        """Return the words that say which frame is shown.

        Parameters
        ----------
        number : int
            From 0 on.
        run : str, optional
            The first if not given.
        """
        of = self.runs[run] if run is not None else next(iter(self.runs.values()))
        return f"{self.counted} {number + 1} of {len(of)}"

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"{self.title}: {' and '.join(f'{len(run)} frames' for run in self.runs.values())}"


def replay(
    name: str,
    title: str,
    alt: str,
    runs: Run | Mapping[str, Run],
    *,
    caption: str = "",
    counted: str = "Moment",
    pause_ms: int = 700,
) -> Replay:
    """Make a replay.

    Parameters
    ----------
    name : str
        Lower-case words and hyphens; identifies the replay on its page.
    title : str
        What is replayed, and what to see in it.
    alt : str
        What is drawn, for readers who do not see it; what happens is added by itself.
    runs : Run, or mapping of str to Run
        With several the reader chooses by name.
    caption : str
        Where the run comes from and what to look for; ``*emphasis*`` is understood.
    counted : str
        What a frame is called: the slider says "Moment 3 of 84".
    pause_ms : int
        Time from one frame to the next while it plays.

    Raises
    ------
    ValueError
        If a text is empty, the name is of another form, or there is no run.
    TypeError
        If a run is something else.

    Examples
    --------
    >>> from helpers.book.replay import Facts, Frame
    >>> frames = [Frame(f"{n} waiting.", {"queue": [n]}) for n in (1, 2)]
    >>> replay("queue", "A queue", "A number.", Run({"queue": Facts("Queue", ["waiting"])}, frames))
    A queue: 2 frames
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name: {name!r} is not allowed; lower-case words with hyphens are")
    for argument, text in (("title", title), ("alt", alt), ("counted", counted)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{argument}: {text!r} is not a non-empty text")
    if not isinstance(pause_ms, int) or pause_ms < 200:
        raise ValueError(f"pause_ms: {pause_ms!r} is not allowed; a whole number from 200 is")
    runs = {"": runs} if isinstance(runs, Run) else dict(runs)
    if not runs:
        raise ValueError("runs: none given; at least one is needed")
    for key, run in runs.items():
        if not isinstance(run, Run):
            raise TypeError(f"runs[{key!r}]: {type(run).__name__}; a Run is needed")
    return Replay(name, title, alt, runs, caption, counted, pause_ms)


def replays_on_page(page: str) -> dict[str, dict[str, Any]]:
    """Return the data of the replays in a page's HTML, by name.

    Raises
    ------
    ValueError
        If a replay has no data, or two have one name: both would get the first one's data.

    Examples
    --------
    >>> replays_on_page("<p>none</p>")
    {}
    """
    names = re.findall(r'class="mb mb-replay" data-mb-name="([^"]+)"', page)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"page: the replays {sorted(twice)} stand on it twice")
    # a JSON parser finds the end: what looks like it can stand in a text of the data
    starts = re.finditer(r"\(globalThis\.mbReplays\?\?=\[\]\)\.push\(", page)
    data = dict(json.JSONDecoder().raw_decode(page, start.end())[0] for start in starts)
    missing = set(names) - set(data)
    if missing:
        raise ValueError(f"page: the replays {sorted(missing)} have no data")
    return {name: data[name] for name in names}
