"""What moves on the pages moves rightly: every control of every live figure, every question."""

from __future__ import annotations

import sys
from pathlib import Path

from gates.browser import NARROW, WIDE, Site
from gates.core import ROOT, Defect
from gates.site_loading import page

if str(ROOT / "tests" / "site") not in sys.path:
    sys.path.append(str(ROOT / "tests" / "site"))

FAULTS_SHOWN = 8  # of one page; the first says most
COMBINATIONS = 40  # of settings that each live figure is put to, beside each stop of each control


#: gate -> what stands in a page that it has to drive
SHOWS = {
    "live-figures": 'class="mb mb-explorable',
    "replays": 'class="mb mb-replay',
    "questions": 'class="mb mb-quiz',
}


def showing(gate: str, folder: Path, names: list[str]) -> list[str]:
    """The pages that a gate has to drive; a feeder shows the same as the page that it feeds."""
    return [
        name
        for name in names
        if SHOWS[gate] in (folder / name).read_text("utf-8") and not _is_feeder(name)
    ]


def _is_feeder(name: str) -> bool:
    from helpers.book.site.pages import is_feeder

    return is_feeder(name.removesuffix(".html"))


def check_figures(site: Site) -> list[Defect]:
    """Move every control of every live figure; report what differs from Python."""
    from drive_explorables import drive_explorables

    found = []
    for name in showing("live-figures", site.folder, site.pages):
        tab = site.chromium.context(WIDE).new_page()
        try:
            tab.goto(f"{site.address}/{name}", wait_until="load")
            result = drive_explorables(tab, most=COMBINATIONS, redraws=1)
            found += [Defect(name, 0, fault) for fault in result.faults[:FAULTS_SHOWN]]
            if result.faults:
                continue
            for figure, settings in result.settings.items():
                site.figures[f"live figure {figure}"] = f"equal to Python in {settings} settings"
        finally:
            tab.close()
    return found


def check_replays(site: Site) -> list[Defect]:
    """Step through every replay by every control; report what differs from Python."""
    from drive_replays import drive_replays

    found = []
    for name in showing("replays", site.folder, site.pages):
        tab = site.chromium.context(WIDE).new_page()
        try:
            tab.goto(f"{site.address}/{name}", wait_until="load")
            result = drive_replays(tab)
            found += [Defect(name, 0, fault) for fault in result.faults[:FAULTS_SHOWN]]
            if result.faults:
                continue
            for replay, frames in result.frames.items():
                site.figures[f"replay {replay}"] = f"right in {frames} frames, by every control"
        finally:
            tab.close()
    return found


def check_questions(site: Site) -> list[Defect]:
    """Answer every question right and wrong by keyboard; report what does not work."""
    from drive_questions import drive_questions
    from playwright.sync_api import Error

    found = []
    for name in showing("questions", site.folder, site.pages):
        context = site.chromium.browser.new_context(viewport={"width": NARROW, "height": 900})
        tab = context.new_page()
        tab.set_default_timeout(5_000)
        tab.set_default_navigation_timeout(30_000)
        try:
            tab.goto(f"{site.address}/{name}", wait_until="load")
            count = drive_questions(tab)
            site.figures[f"questions of {name}"] = f"{count} answered right and wrong by keyboard"
        except (AssertionError, Error) as error:
            found.append(Defect(name, 0, str(error).strip().splitlines()[0]))
        finally:
            context.close()
    return found


# ---- planted defects ---------------------------------------------------------------------------


def _planted(folder: Path, html: str, old: str, new: str) -> str:
    if old not in html:
        raise ValueError(f"{old!r} is not in the component any more: plant another defect")
    return page(folder, html.replace(old, new))


def a_figure_that_forgets_its_read_out(folder: Path) -> str:
    from helpers.book.explorable import registry

    html = registry()["what-batch-size-buys"].html
    return _planted(folder, html, "out.textContent = state.readout", "out.textContent ||= 1")


def a_figure_off_by_a_little(folder: Path) -> str:
    from helpers.book.explorable import registry

    html = registry()["what-batch-size-buys"].html
    return _planted(folder, html, "Math.max(", "1.0001 * Math.max(")


def _replay() -> str:
    from library.replay_samples import all_panels

    return all_panels.html


def a_replay_that_skips_an_element(folder: Path) -> str:
    return _planted(folder, _replay(), "put(e,run.looks", "i%7&&put(e,run.looks")


def a_replay_whose_words_lag_behind(folder: Path) -> str:
    return _planted(
        folder, _replay(), "out.textContent=run.says[at]", "out.textContent=run.says[0]"
    )


def a_replay_that_cannot_be_stopped(folder: Path) -> str:
    return _planted(folder, _replay(), "clearInterval(timer);", "")


def a_replay_for_the_mouse_only(folder: Path) -> str:
    return _planted(folder, _replay(), 'make("button",{type', 'make("span",{type')


def a_quiz_that_calls_right_wrong(folder: Path) -> str:
    from helpers.book import quiz

    html = quiz.show("roofline", "counting")._repr_html_()
    return _planted(folder, html, "q.a==a?", "q.a!=a?")


def a_quiz_for_the_mouse_only(folder: Path) -> str:
    from helpers.book import quiz

    html = quiz.show("roofline", "counting")._repr_html_()
    return _planted(folder, html, 'make("button",q.k', 'make("span",q.k')


FIGURE_PLANTS = (a_figure_that_forgets_its_read_out, a_figure_off_by_a_little)
REPLAY_PLANTS = (
    a_replay_that_skips_an_element, a_replay_whose_words_lag_behind,
    a_replay_that_cannot_be_stopped, a_replay_for_the_mouse_only,
)  # fmt: skip
QUESTION_PLANTS = (a_quiz_that_calls_right_wrong, a_quiz_for_the_mouse_only)
