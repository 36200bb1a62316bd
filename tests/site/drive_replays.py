"""Step through every replay on a page by every control, and hold each frame against Python's.

``drive_replays(page)`` works on any loaded page. The truth is the record that the page itself
holds, read by Python (:class:`helpers.book.replay.Record`); that this record is the run's is for
the library's and the notebooks' tests, and checked here too for replays that are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Locator, Page

from helpers.book.replay import Record, Replay, replays_on_page

#: what the visible run of a replay shows
_READ = """root => {
  const run = [...root.querySelectorAll(".mb-y-run")].filter(e => !e.hidden);
  const slider = root.querySelector("input"), words = q => root.querySelector(q).textContent;
  return {
    runs: run.length,
    visible: run[0].getBoundingClientRect().height > 0,
    looks: [...run[0].querySelectorAll("[data-v]")].map(e => [
      e.children.length ? null : e.textContent, e.dataset.v, e.getAttribute("style")]),
    html: run[0].querySelector(".mb-y-picture").innerHTML,
    label: run[0].querySelector(".mb-y-picture").getAttribute("aria-label"),
    says: words("output"),
    place: words(".mb-y-place"),
    count: words(".mb-y-controls label b"),
    slider: [+slider.value, +slider.min, +slider.max, slider.getAttribute("aria-valuetext")],
    ends: [...root.querySelectorAll("button")].map(e => e.getAttribute("aria-disabled")),
  };
}"""
#: faults of one replay after which the rest would say nothing new
_ENOUGH = 12
#: HTML as the browser itself would write it
_AS_WRITTEN = "html => { const e = document.createElement('template'); e.innerHTML = html; return e.innerHTML; }"  # noqa: E501


@dataclass
class Report:
    """What was driven and what was wrong.

    Parameters
    ----------
    frames : dict of str to int
        How many frames of each replay were seen, by any control.
    faults : list of str
        One line each; empty if all is well.
    """

    frames: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def drive_replays(page: Page, known: Mapping[str, Replay] | None = None) -> Report:
    """Drive all replays of a loaded page.

    Parameters
    ----------
    page : Page
        A loaded page; motion must be allowed.
    known : mapping of str to Replay, optional
        Replays that Python draws anew in every frame, to be compared with the page.
    """
    report = Report()
    try:
        data = replays_on_page(page.content())
    except ValueError as error:
        report.faults.append(str(error))
        return report
    roots = page.locator(".mb-replay")
    for i in range(roots.count()):
        root = roots.nth(i)
        name = root.get_attribute("data-mb-name")
        drive = _Drive(page, root, data[name], (known or {}).get(name))
        try:
            drive.start()
            drive.all()
        except _Lost as lost:
            drive.faults.append(str(lost))
        report.frames[name] = drive.seen
        report.faults += [f"{name}: {fault}" for fault in drive.faults]
    return report


class _Lost(Exception):
    """A control is not there or does nothing: what follows would only repeat that."""


class _Drive:
    """Drives one replay."""

    def __init__(self, page: Page, root: Locator, data: dict[str, Any], known: Replay | None):
        self.page, self.root, self.data, self.known = page, root, data, known
        self.seen = 0
        self.faults: list[str] = []

    def start(self) -> None:
        self.wait("root => root.dataset.live === ''", 5_000, "its script did not start")
        self.root.scroll_into_view_if_needed()

    def wait(self, condition: str, timeout: float, words: str) -> None:
        from playwright.sync_api import TimeoutError

        try:
            handle = self.root.element_handle()
            self.page.wait_for_function(condition, arg=handle, timeout=timeout)
        except TimeoutError:
            raise _Lost(words) from None

    def button(self, words: str) -> Locator:
        found = self.root.get_by_role("button", name=words, exact=True)
        if found.count() != 1:
            raise _Lost(f"has {found.count()} buttons named {words}")
        return found

    def all(self) -> None:
        if self.known is not None and self.known.data != self.data:
            self.faults.append("the page holds another record than Python makes")
        for number, run in enumerate(self.data["runs"]):
            if len(self.data["runs"]) > 1:
                select = self.root.get_by_role("combobox", name="Run")
                if select.locator("option").nth(number).inner_text() != run["name"]:
                    self.faults.append(f"run {number} is not named {run['name']!r}")
                select.focus()
                self.page.keyboard.press("Home")
                for _ in range(number):
                    self.page.keyboard.press("ArrowDown")
            self._take_run(number)
            self.compare(0)
            self.by_button()
            self.by_slider()
            if number == 0:
                self.by_playing()
                self.without_motion()

    def _take_run(self, number: int) -> None:
        run = self.data["runs"][number]
        self.record = Record.from_data(run)
        self.last = len(self.record.steps)
        self.run = list(self.known.runs.values())[number] if self.known else None
        self.drawn: dict[int, str] = {}  # frames that Python drew, as the browser writes them
        found = self.root.locator(".mb-y-run").nth(number).locator("ol > li")
        self.says = found.all_text_contents()
        if len(self.says) != self.last + 1 or not all(self.says):
            raise _Lost(f"tells {len(self.says)} moments in words; there are {self.last + 1}")

    # ---- the controls --------------------------------------------------------------------------

    def by_button(self) -> None:
        """From the first frame to the last and back, with the keyboard, one more at each end."""
        for words, order in (
            ("Forward", [*range(1, self.last + 1), self.last]),
            ("Back", [*range(self.last - 1, -1, -1), 0]),
        ):
            self.button(words).focus()
            for i, number in enumerate(order):
                self.page.keyboard.press("Enter" if i % 2 else "Space")
                self.compare(number)

    def by_slider(self) -> None:
        """To the ends, by single steps, and by leaps both ways."""
        slider = self.root.get_by_role("slider")
        if slider.count() != 1 or not slider.get_attribute("aria-label"):
            raise _Lost("has no slider with a name")
        slider.focus()
        for key, number in (
            ("End", self.last),
            ("ArrowLeft", max(0, self.last - 1)),
            ("Home", 0),
            ("ArrowRight", min(1, self.last)),
        ):
            self.page.keyboard.press(key)
            self.compare(number)
        for number in (self.last, self.last // 3, self.last * 2 // 3, self.last // 2, 0):
            slider.fill(str(number))
            self.compare(number)

    def by_playing(self) -> None:
        """Play two frames, pause, stand still; play to the end, and from there again."""
        if self.last < 3:
            return
        pause = self.data["pause"]
        reach = "root => +root.querySelector('input').value >= {}"
        self._press("Play")
        if self.root.locator("output").get_attribute("aria-live") != "off":
            self.faults.append("every moment would be read aloud while it plays")
        self.wait(reach.format(1), 5 * pause + 2_000, "Play does not play")
        self._press("Pause")
        stands = int(self.root.get_by_role("slider").input_value())
        if self.root.locator("output").get_attribute("aria-live") != "polite":
            self.faults.append("nothing is read aloud any more after it has played")
        self.page.wait_for_timeout(1.5 * pause)
        self.compare(stands)
        self.root.get_by_role("slider").fill(str(self.last - 1))
        self._press("Play")
        self.wait(reach.format(self.last), 5 * pause + 2_000, "Play does not reach the end")
        self.compare(self.last)
        self._press("Play")  # it says so again, and starts anew
        self.compare(0)
        self._press("Forward")  # a step stops it
        self.page.wait_for_timeout(1.5 * pause)
        self.compare(1)

    def without_motion(self) -> None:
        """A reader who prefers no motion has no Play, and what plays stops."""
        offers = "root => [...root.querySelectorAll('button:not([hidden])')].length == "
        self.page.emulate_media(reduced_motion="reduce")
        self.wait(offers + "2", 1_000, "offers to play although no motion is wanted")
        self.page.emulate_media(reduced_motion="no-preference")
        self.wait(offers + "3", 1_000, "does not offer to play again")
        self.root.get_by_role("slider").fill("0")

    def _press(self, words: str) -> None:
        self.button(words).focus()
        self.page.keyboard.press("Enter")

    # ---- what it shows -------------------------------------------------------------------------

    def compare(self, number: int) -> None:
        """Hold everything that is shown against frame ``number``."""
        self.seen += 1
        shown = self.root.evaluate(_READ)
        found = []
        if shown["slider"][0] != number:
            raise _Lost(f"stands at frame {shown['slider'][0]} instead of {number}")
        if shown["runs"] != 1 or not shown["visible"]:
            found.append("does not show exactly one run")
        truth = self.record.frame(number)
        if len(shown["looks"]) != len(truth):
            raise _Lost(f"has {len(shown['looks'])} elements; the record has {len(truth)}")
        for i, ((text, kind, style), look) in enumerate(zip(shown["looks"], truth, strict=True)):
            right = (look.text, look.kind, None if look.size is None else f"--v:{look.size}")
            if (text, kind, style) != right:
                found.append(f"element {i} is {(text, kind, style)}, not {right}")
        says, of = self.says[number], f"{number + 1} of {self.last + 1}"
        for what, got, right in (
            ("the sentence", shown["says"], says),
            ("the alternative text", shown["label"], f"{self.data['alt']} Now: {says}"),
            ("the place", shown["place"], f"{self.data['counted']} {of}"),
            ("the count", shown["count"], of),
            ("the slider", shown["slider"], [number, 0, self.last, of]),
            ("the ends", shown["ends"], [_yes(number == 0), None, _yes(number == self.last)]),
        ):
            if got != right:
                found.append(f"{what} says {got!r}, not {right!r}")
        if self.run is not None:
            if self.run.says[number] != says:
                found.append(f"says {says!r}; Python says {self.run.says[number]!r}")
            if number not in self.drawn:
                self.drawn[number] = self.page.evaluate(_AS_WRITTEN, self.run.html(number))
            if shown["html"] != self.drawn[number]:
                found.append("is not what Python draws")
        self.faults += [f"at frame {number}: {fault}" for fault in found]
        if len(self.faults) > _ENOUGH:
            raise _Lost("there are more faults")


def _yes(value: bool) -> str:
    return "true" if value else "false"
