"""The replays in a browser, on a bare page: driven, at two widths, and with planted defects."""

from __future__ import annotations

import pytest
from drive_replays import drive_replays

from library.replay_samples import SAMPLES, all_panels, pipeline

pytestmark = pytest.mark.browser

BOTH = "".join(made.html for made in SAMPLES.values())


@pytest.mark.parametrize("width", [1280, 390])
def test_every_control_shows_what_python_draws(show, width):
    page, errors = show(BOTH, width)
    report = drive_replays(page, SAMPLES)
    assert not report.faults, "\n".join(report.faults[:20])
    assert not errors
    assert set(report.frames) == set(SAMPLES)
    assert min(report.frames.values()) >= 30


@pytest.mark.slow  # four of the kind are planted for the gate, in every run of the tests
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("put(e,run.looks", "i%7&&put(e,run.looks", "is not what Python draws"),
        ("run.steps.slice(0,at)", "run.steps.slice(1,at)", "not ("),
        ("run.says[at];\n", "run.says[at]||1;\nrun.says[0]=0;", "sentence"),
        ('" Now: "', '" Then: "', "alternative text"),
        ('place.textContent=', "place.title=", "the place"),
        ("slider.max=last", "slider.max=last+1", "slider"),
        ('setAttribute("aria-valuetext",said)', 'setAttribute("aria-valuetext",at)', "slider"),
        ("back.ariaDisabled=at==0", "back.ariaDisabled=false", "the ends"),
        ('"Back",()', '"Forth",()', "buttons named Back"),
        ("go(at-1);", "go(at-2);", "stands at frame"),
        ("clearInterval(timer);", "", "stands at frame"),
        ('out.ariaLive="off";', "", "read aloud"),
        ("play.hidden=still.matches;", "", "no motion"),
        ("r.box.hidden=r!=run", "r.box.hidden=false", "exactly one run"),
        ("if(at==run.steps.length)go(0);", "", "stands at frame"),
        ("timer=setInterval", "timer=0&&setInterval", "Play does not play"),
        ("root.dataset.live=", "root.dataset.lives=", "did not start"),
        ('"Four panels."', '"No panels."', "another record"),
        ("<li>At 3,", "<li>At 30,", "Python says"),
    ],
)  # fmt: skip
def test_a_planted_defect_is_found(show, old, new, words):
    # the smallest replay that has it: the one with a choice where that is what breaks
    html = pipeline.html if old.startswith(("r.box", "<li>At")) else all_panels.html
    assert old in html
    page, _ = show(html.replace(old, new))
    faults = drive_replays(page, SAMPLES).faults
    assert any(words in fault for fault in faults), faults[:5]


def test_a_request_on_its_way_through_the_engine(show):
    import tiny
    from helpers.book.figures.model import request_replay
    from helpers.lm import tokenizer

    words = tokenizer.load()
    made = request_replay(tiny.model(vocab=len(words)), words)
    page, errors = show(made.html, 390)
    report = drive_replays(page, {made.name: made})
    assert not report.faults, "\n".join(report.faults[:20])
    assert not errors
    assert report.frames[made.name] > 2 * len(made.runs[""])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_blocks_shared_copied_and_given_up(show):
    import tiny
    from helpers.book.figures.kv_blocks import blocks_replay

    made = blocks_replay(tiny.model())
    page, errors = show(made.html, 390)
    report = drive_replays(page, {made.name: made})
    assert not report.faults, "\n".join(report.faults[:20])
    assert not errors
    assert report.frames[made.name] >= sum(map(len, made.runs.values()))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_same_name_twice_is_found(show):
    page, _ = show(all_panels.html + all_panels.html)
    assert "twice" in drive_replays(page).faults[0]


def test_smallest_text_and_no_overflow(show):
    for width in (1280, 700, 390):
        page, _ = show(BOTH, width)
        smallest = page.evaluate(
            """() => Math.min(...[...document.querySelectorAll(".mb-replay *")]
              .filter(e => e.offsetWidth && [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
              .map(e => parseFloat(getComputedStyle(e).fontSize)))"""  # noqa: E501
        )
        assert smallest >= 12, f"{width}: {smallest:.2f} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(show, theme):
    from gates.browser import axe_source

    body = BOTH.replace('data-theme="light"', f'data-theme="{theme}"')
    page, _ = show(f"<title>Replays</title><main><h1>Replays</h1>{body}</main>", 390)
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    for at in (0, 6):
        for slider in page.get_by_role("slider").all():
            slider.fill(str(at))
        page.evaluate(axe_source())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert not found, [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]


def test_the_present_moment_is_always_in_view(show):
    """Lanes too long for a phone pass under it."""
    page, _ = show(pipeline.html, 390)
    page.get_by_role("combobox").select_option(index=1)
    slider = page.get_by_role("slider")
    run = pipeline.runs["3 stages, 6"]
    for number in range(0, len(run), 4):
        slider.fill(str(number))
        view, track = page.evaluate(
            """() => ["view", "track"].map(name => {
              const run = [...document.querySelectorAll(".mb-y-run")].find(e => !e.hidden);
              run.querySelector(".mb-y-track").style.transition = "none";
              const box = run.querySelector(".mb-y-" + name).getBoundingClientRect();
              return [box.left, box.width];
            })"""
        )
        assert track[1] > view[1]
        now = track[0] + track[1] * number / (len(run) - 1)
        assert view[0] - 0.5 <= now <= view[0] + view[1] + 0.5


@pytest.mark.parametrize("options", [{"java_script_enabled": False}, {}])
def test_without_a_script_and_in_print_a_picture_and_its_words_stand(show, options):
    page, _ = show(all_panels.html, **options)
    box = page.locator(".mb-replay")
    if not options:
        page.get_by_role("slider").fill("4")
        page.emulate_media(media="print")
    number = 0 if options else 4
    assert box.locator("output").text_content() == all_panels.runs[""].says[number]
    assert f"Moment {number + 1} of 10" in box.locator(".mb-y-place").inner_text()
    assert box.locator(".mb-y-picture").is_visible()
    assert not box.locator("button:visible, input:visible, select:visible").count()
    if options:  # every moment in words, behind a line that opens without a script
        box.locator("summary").click()
        assert box.locator("li:visible").count() == 10


def test_in_a_sandboxed_frame(show):
    """Colab shows each output in a frame of its own, of another origin."""
    from html import escape

    frame = f'<iframe sandbox="allow-scripts" style="width:800px;height:700px" srcdoc="{escape(all_panels.html, quote=True)}">'  # noqa: E501
    page, errors = show(frame)
    inside = page.frame_locator("iframe").locator(".mb-replay")
    inside.get_by_role("button", name="Forward").focus()
    page.keyboard.press("Enter")
    assert inside.locator("output").inner_text() == all_panels.runs[""].says[1]
    assert not errors


def test_twice_run_code_starts_each_replay_once(show):
    page, errors = show(all_panels.html + pipeline.html)
    page.evaluate("mbReplay()")
    assert page.locator(".mb-y-controls button").count() == 6
    assert not errors


def test_it_never_starts_by_itself(show):
    page, _ = show(all_panels.html)
    page.wait_for_timeout(500)
    assert page.get_by_role("slider").input_value() == "0"


def test_a_replay_that_is_taken_off_the_page_stops(show):
    page, errors = show(all_panels.html)
    page.evaluate("window.kept = document.querySelector('.mb-replay')")
    page.get_by_role("button", name="Play").click()
    page.evaluate("kept.remove()")
    at = page.evaluate("kept.querySelector('input').value")
    page.wait_for_timeout(600)
    assert page.evaluate("kept.querySelector('input').value") == at
    assert page.evaluate("kept.querySelectorAll('button')[1].textContent") == "Play"
    assert not errors
