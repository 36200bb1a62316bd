"""Answer every question on a page with the keyboard alone, right and wrong, and hold what it says.

``drive_questions(page)`` works on any page that shows questions: it reads the right answers from
the scripts on the page, so it needs to know nothing else about it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Locator, Page

_INSTANCE = re.compile(r"\(globalThis\.mbQuiz\?\?=\[\]\)\.push\((\[.*\])\)", re.DOTALL)


def drive_questions(page: Page) -> int:
    """Answer, reload, reset.

    Parameters
    ----------
    page : Page
        A loaded page with questions.

    Returns
    -------
    int
        How many questions were driven.

    Raises
    ------
    AssertionError
        If a question cannot be answered by keyboard, or says or keeps the wrong thing.
    """
    data = _data(page)
    forms = page.locator(".mb-quiz form")
    ids = [forms.nth(i).get_attribute("data-q") for i in range(forms.count())]
    ids = list(dict.fromkeys(ids))
    assert ids, "the page shows no question"
    _reset(page)
    for id in ids:
        form, q = _form(page, id), data[id]
        if q["k"] == "guess":
            _guess(page, form, q)
            continue
        _nothing_chosen(page, form, q)
        _choose(page, form, q, right=False)
        _check(page, form)
        _says(form, "Not yet.", id)
        _choose(page, form, q, right=True)
        assert "Not yet." not in _said(form), f"{id}: an old result stands beside a new choice"
        _check(page, form)
        _says(form, "Right.", id)
        assert len(_said(form)) > len("✓ Right. "), f"{id}: right, but no reason is given"
    _score(page, data, every_right=True)
    page.reload()
    page.wait_for_function("document.querySelector('.mb-quiz[data-on]')")
    for id in ids:
        _says(_form(page, id), "Kept." if data[id]["k"] == "guess" else "Right.", f"{id}, reloaded")
    _score(page, data, every_right=True)
    _returned(page, guessed=True)
    _reset(page)
    for id in ids:
        assert _said(_form(page, id)) == "", f"{id}: still says something after a reset"
    _score(page, data, every_right=False)
    page.reload()
    page.wait_for_function("document.querySelector('.mb-quiz[data-on]')")
    for id in ids:
        assert _said(_form(page, id)) == "", f"{id}: the reset did not last"
    _returned(page, guessed=False)
    return len(ids)


def _data(page: Page) -> dict[str, Any]:
    """Every question's data, read from the page's own scripts."""
    found: dict[str, Any] = {}
    for script in page.locator("script[type=module]").all_text_contents():
        if match := _INSTANCE.fullmatch(script.strip()):
            found |= {k: v for k, v in json.loads(match[1])[1].items() if k != "back"}
    return found


def _form(page: Page, id: str) -> Locator:
    return page.locator(f'.mb-quiz form[data-q="{id}"]').first


def _said(form: Locator) -> str:
    said = form.locator("[role=status]").evaluate_all("all => all.map(e => e.innerText)")
    assert len(said) == 1, "a question needs one place where its result is announced"
    return said[0].strip()


def _says(form: Locator, words: str, id: str) -> None:
    said = _said(form)
    assert words in said, f"{id}: says {said!r}, expected {words!r}"


def _focus(page: Page, target: Locator) -> None:
    """Reach an element, or another of its radio group, with the Tab key from the one before."""
    target.evaluate(
        """e => {
            const stops = [...document.querySelectorAll('input,button,summary,a[href],select')];
            document.body.tabIndex = -1;
            for (let i = stops.indexOf(e) - 1; i >= -1; i--) {
                const before = stops[i] || document.body;
                before.focus({preventScroll: true});  // Tab scrolls to where it leads
                if (document.activeElement === before) return;
            }
        }"""
    )
    for _ in range(12):  # a radio group is one stop, and the browser chooses which button
        page.keyboard.press("Tab")
        if target.evaluate(
            """e => {
                const at = document.activeElement;
                return e === at || e.type === 'radio' && at.type === 'radio' && at.form === e.form;
            }"""
        ):
            return
    raise AssertionError(f"Tab does not reach {target}")


def _check(page: Page, form: Locator) -> None:
    _focus(page, form.locator(".mb-go button").first)
    page.keyboard.press("Enter")


def _nothing_chosen(page: Page, form: Locator, q: dict) -> None:
    if q["k"] == "order":
        return  # an order is always an answer
    _check(page, form)
    _says(form, "Not counted.", str(q))


def _choose(page: Page, form: Locator, q: dict, right: bool) -> None:
    if q["k"] == "one":
        count = form.locator("input").count()
        _radio(page, form, q["a"] if right else (q["a"] + 1) % count)
    elif q["k"] == "some":
        for i in range(form.locator("input").count()):
            wanted = (i in q["a"]) == right
            box = form.locator("input").nth(i)
            if box.is_checked() != wanted:
                _focus(page, box)
                page.keyboard.press("Space")
                assert box.is_checked() == wanted
    elif q["k"] == "order":
        _sort(page, form, right)
    else:
        _type(page, form, repr(q["a"] if right else -abs(q["a"]) - 1))


def _radio(page: Page, form: Locator, index: int) -> None:
    buttons = form.locator("input")
    _focus(page, buttons.first)
    page.keyboard.press("Space")
    for _ in range(buttons.count()):
        if buttons.nth(index).is_checked():
            return
        page.keyboard.press("ArrowDown")
    raise AssertionError(f"the arrow keys do not reach choice {index}")


def _sort(page: Page, form: Locator, right: bool) -> None:
    """Bring the items into their order, or leave the first two the wrong way round."""
    items = form.locator(".mb-o > li")
    wanted = [str(i) for i in range(items.count())]
    if not right:
        wanted[:2] = wanted[1::-1]
    for place, key in enumerate(wanted):
        for _ in range(items.count()):
            order = [items.nth(i).get_attribute("data-i") for i in range(items.count())]
            if order[place] == key:
                break
            up = items.nth(order.index(key)).get_by_role("button", name=re.compile("^Move up"))
            _focus(page, up)
            page.keyboard.press("Enter")
            held = page.evaluate("document.activeElement.closest('li')?.dataset.i")
            assert held == key, "focus was lost on moving"
            assert re.search(r"now \d+ of \d+", _said(form)), "a move is not announced"
    order = [items.nth(i).get_attribute("data-i") for i in range(items.count())]
    assert order == wanted


def _type(page: Page, form: Locator, text: str) -> None:
    field = form.locator("input")
    _focus(page, field)
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


def _guess(page: Page, form: Locator, q: dict) -> None:
    _check(page, form)
    _says(form, "Not counted.", str(q))
    skip = form.get_by_role("button", name="Skip")
    _focus(page, skip)
    page.keyboard.press("Enter")
    _says(form, "Skipped", str(q))
    _type(page, form, f"12 {q['u']}")
    page.keyboard.press("Enter")
    _says(form, "Kept.", str(q))


def _score(page: Page, data: dict, every_right: bool) -> None:
    for box in page.locator(".mb-quiz:has(form)").all():
        said = box.locator(".mb-s").inner_text()
        n = box.locator("form").count()
        guesses = "mb-guess" in (box.get_attribute("class") or "")
        done = n if every_right else 0
        expected = f"{done} of {n} guesses kept" if guesses else f"{done} of {n} right"
        assert expected in said, f"score {said!r}, expected {expected!r}"
        if not guesses:
            assert "0 at the first try" in said  # each was answered wrong first


def _returned(page: Page, guessed: bool) -> None:
    for line in page.locator("[data-back]").all_inner_texts():
        assert ("powers of two" in line or "on the spot" in line or "1.0 power" in line) == guessed
        assert ("No guess kept" in line) != guessed


def _reset(page: Page) -> None:
    for button in page.locator(".mb-f button").all():
        _focus(page, button)
        page.keyboard.press("Enter")
