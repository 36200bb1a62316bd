"""Move every control of every explorable on a page, and hold what it shows against Python.

``drive_explorables(page)`` works on any loaded page: it finds the explorables by name, moves each
control through all its stops with the keyboard, sets many combinations, and compares read-outs and
marks with the drawing function on plain numbers, and the marks' pixels with matplotlib's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Locator, Page

from helpers.book.explorable import Explorable, registry
from helpers.book.explorable.compare import (
    PLACE_ATTRIBUTES,
    differences,
    misplaced,
    place_of,
    places,
    redrawn,
)

#: sets the controls of one explorable to many combinations and tells what it shows at each
_MOVE = """
(root, [combinations, attributes]) => combinations.map(positions => {
  for (const [name, position] of Object.entries(positions)) {
    root.querySelector(`[name="${name}"]`).value = position;
  }
  root.querySelector("input,select").dispatchEvent(new Event("input", {bubbles: true}));
  return read(root, attributes);
})
"""
_READ = """
const read = (root, attributes) => ({
  state: root.mbState,
  output: root.querySelector("output").textContent,
  svgs: [...root.querySelectorAll("svg")].map(svg => ({
    label: svg.getAttribute("aria-label"),
    shown: svg.getBoundingClientRect().width > 0,
    marks: [...Array(root.mbState.marks.length).keys()].map(number => {
      const element = svg.querySelector(`[data-m="${number}"]`);
      const found = {text: element.textContent};
      for (const name of attributes) {
        if (element.hasAttribute(name)) found[name] = element.getAttribute(name);
      }
      return found;
    }),
  })),
});
"""


@dataclass
class Report:
    """What was driven and what was wrong.

    Parameters
    ----------
    settings : dict of str to int
        How many settings each explorable was seen at.
    faults : list of str
        One line each; empty if all is well.
    """

    settings: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def drive_explorables(
    page: Page,
    known: Mapping[str, Explorable] | None = None,
    *,
    most: int = 200,
    redraws: int = 2,
    tolerance: float = 1e-9,
) -> Report:
    """Drive all explorables of a loaded page.

    Parameters
    ----------
    page : Page
        A loaded page.
    known : mapping of str to Explorable, optional
        Explorables by name; the book's own if not given.
    most : int
        Largest number of combinations of settings per explorable; a repeatable sample beyond.
    redraws : int
        At how many of them matplotlib draws the figure anew (about 0.1 s each).
    tolerance : float
        Largest allowed relative error of a number.

    Returns
    -------
    Report
        ``faults`` is empty if every read-out, mark and label is right.
    """
    known = registry() if known is None else known
    report = Report()
    roots = page.locator(".mb-explorable")
    for i in range(roots.count()):
        root = roots.nth(i)
        name = root.get_attribute("data-mb-name")
        if name in report.settings:
            report.faults.append(f"{name}: stands on the page twice")
            continue
        if name not in known:
            report.faults.append(f"{name}: is not in helpers.book.figures")
            continue
        drive = _Drive(page, root, known[name], tolerance)
        drive.by_keyboard()
        drive.by_combination(most, redraws)
        report.settings[name] = drive.seen
        report.faults += [f"{name}: {fault}" for fault in drive.faults]
    return report


class _Drive:
    """Drives one explorable."""

    def __init__(self, page: Page, root: Locator, figure: Explorable, tolerance: float) -> None:
        self.page, self.root, self.figure, self.tolerance = page, root, figure, tolerance
        self.kinds = [mark[0] for mark in figure.spec["sizes"][0]["marks"]]
        self.seen = 0
        self.faults: list[str] = []
        root.scroll_into_view_if_needed()
        page.wait_for_function("root => root.dataset.live === ''", arg=root.element_handle())

    def by_keyboard(self) -> None:
        """Take each control from its first stop to its last with the keys a reader has."""
        for argument, control in self.figure.controls.items():
            field = self.root.locator(f'[name="{argument}"]')
            label = field.evaluate("e => e.closest('label').textContent")
            if control.label not in label:
                self.faults.append(f"{argument}: its label says {label!r}")
            field.focus()
            self.page.keyboard.press("Home")
            for position in range(len(control.stops)):
                if position:
                    self.page.keyboard.press("ArrowDown" if control.is_select else "ArrowRight")
                at = int(field.input_value())
                if at != position:
                    self.faults.append(f"{argument}: the keyboard stays at stop {at}")
                    break
                text = field.get_attribute("aria-valuetext")
                if not control.is_select and text != control.shown(position):
                    self.faults.append(f"{argument}: says {text!r} at {control.shown(position)!r}")
                self._compare({argument: control.key(position)}, self._read())
            self._set({argument: control.start})

    def by_combination(self, most: int, redraws: int) -> None:
        """Set many combinations, some of which matplotlib draws anew."""
        controls = self.figure.controls
        all_settings = list(self.figure.settings(most))
        for first in range(0, len(all_settings), 50):
            batch = all_settings[first : first + 50]
            positions = [
                {k: controls[k].position(k, value) for k, value in settings.items()}
                for settings in batch
            ]
            shown = self.root.evaluate(
                f"(root, argument) => {{ {_READ} return ({_MOVE})(root, argument); }}",
                [positions, list(PLACE_ATTRIBUTES)],
            )
            for settings, each in zip(batch, shown, strict=True):
                self._compare(settings, each)
        step = max(1, len(all_settings) // max(1, redraws))
        for settings in all_settings[step // 2 :: step][:redraws]:
            self._set({k: controls[k].position(k, value) for k, value in settings.items()})
            self._compare(settings, self._read(), redraw=True)
        self._set({argument: control.start for argument, control in controls.items()})

    def _set(self, positions: dict[str, int]) -> None:
        self.root.evaluate(
            f"(root, argument) => {{ {_READ} return ({_MOVE})(root, argument); }}",
            [[positions], list(PLACE_ATTRIBUTES)],
        )

    def _read(self) -> dict[str, Any]:
        return self.root.evaluate(
            f"(root, attributes) => {{ {_READ} return read(root, attributes); }}",
            list(PLACE_ATTRIBUTES),
        )

    def _compare(
        self, settings: dict[str, Any], shown: dict[str, Any], redraw: bool = False
    ) -> None:
        self.seen += 1
        truth = self.figure.python(**settings)
        found = differences(truth, shown["state"], self.tolerance)
        if shown["output"] != truth.readout:
            found.append(f"shows {shown['output']!r} instead of {truth.readout!r}")
        if [svg["shown"] for svg in shown["svgs"]].count(True) != 1:
            found.append("does not show exactly one of its two drawings")
        for size, svg in zip(("wide", "narrow"), shown["svgs"], strict=True):
            if svg["label"] != f"{self.figure.alt} Now: {truth.readout}":
                found.append(f"{size}: the alternative text says {svg['label']!r}")
            got = [place_of(k, m) for k, m in zip(self.kinds, svg["marks"], strict=True)]
            right = places(self.figure, size, truth)
            if redraw:
                right = redrawn(self.figure, size, **settings)
            wrong = misplaced(right, got, self.kinds, clamped=svg["shown"])
            for number, (kind, mark) in enumerate(zip(self.kinds, svg["marks"], strict=True)):
                if kind == "text" and mark["text"] != truth.marks[number][2]:
                    wrong.append(f"mark {number}: says {mark['text']!r}")
            found += [f"{size}: {fault}" for fault in wrong]
        self.faults += [f"at {settings}: {fault}" for fault in found]
