"""The question component in a real browser, on a page of its own."""

from __future__ import annotations

import contextlib
import http.server
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "library"))

import quiz_samples

from helpers.book import quiz
from helpers.book.quiz.bank import Bank

sync_api = pytest.importorskip("playwright.sync_api")
from drive_questions import drive_questions  # noqa: E402

pytestmark = pytest.mark.browser

HEAD = (
    '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>Questions</title>'
    "<style>body{font-family:sans-serif;margin:8px}html[data-theme=dark]{background:#1a1f26;"
    "color:#e4e8ed}</style></head><body><main><h1>Questions</h1>"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a loopback server with one page of all question types."""
    folder = tmp_path_factory.mktemp("site")
    planted = (
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    )
    text = quiz_samples.SAMPLE.replace(
        "They wait.", f"'They wait {planted.replace(chr(39), chr(34))}'"
    )
    bank = Bank(quiz_samples.write(folder, text))
    views = [
        quiz.predictions("roofline", source=bank),
        quiz.show("roofline", "first", source=bank),
        quiz.show("roofline", "second", source=bank),
        quiz.predictions_return("roofline", source=bank),
    ]
    parts = [view._repr_html_() for view in views]
    (folder / "index.html").write_text(HEAD + "".join(parts) + "</main>", encoding="utf-8")
    few = quiz_samples.SAMPLE.split("  - id: true-ones")[0]
    (folder / "few").mkdir()
    few_bank = Bank(quiz_samples.write(folder / "few", few))
    few_page = quiz.show("roofline", "first", source=few_bank)._repr_html_()
    (folder / "few.html").write_text(f"{HEAD}{few_page}</main>", encoding="utf-8")
    framed = parts[1].replace("&", "&amp;").replace('"', "&quot;")
    (folder / "framed.html").write_text(
        f'{HEAD}<iframe title="questions" sandbox="allow-scripts" width="700" height="1400" '
        f'srcdoc="{framed}"></iframe></main>',
        encoding="utf-8",
    )

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(chromium):
    return chromium.browser  # one for all tests of the site: Playwright cannot start twice


@contextlib.contextmanager
def opened(browser, address: str, width: int = 1280, **context):
    """A page with the network cut but for loopback; any script error fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **context)
    context.route(lambda url: not url.startswith("http://127.0.0.1"), lambda route: route.abort())
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"asked for {request.url}"))
    page.goto(address)
    yield page
    assert errors == []
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_every_type_right_and_wrong_by_keyboard(browser, site, width):
    with opened(browser, f"{site}/index.html", width) as page:
        assert drive_questions(page) == 8
        assert page.title() == "Questions"  # the planted script stayed text


#: a defect that the driver must catch: name -> (what to replace, by what)
PLANTED = {
    "not announced": ('role:"status"', 'title:"status"'),
    "right called wrong": ("q.a==a?", "q.a!=a?"),
    "not kept": ("localStorage[KEY+id]=JSON.stringify(v)", "0"),
    "reset keeps": ("delete localStorage[KEY+id]", "0"),
    "old result stays": ('form.oninput=()=>say("")', "0"),
    "score counts nothing": ("filter(s => s.ok)", "filter(s => 0)"),
    "mouse only": ('make("button",q.k', 'make("span",q.k'),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_driver_catches_a_planted_defect(browser, site, name):
    old, new = PLANTED[name]

    def serve(route):
        body = route.fetch().text()
        assert old in body
        route.fulfill(body=body.replace(old, new), content_type="text/html; charset=utf-8")

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(3_000)
    page.set_default_navigation_timeout(30_000)
    page.route("**/few.html", serve)
    page.goto(f"{site}/few.html")
    with pytest.raises((AssertionError, sync_api.Error)):
        drive_questions(page)
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessible_and_no_wider_than_the_window(browser, site, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, f"{site}/index.html", width) as page:
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for answered in (False, True):
            if answered:
                _answer_something(page)
                page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            results = axe.run(page)
            assert results.violations_count == 0, results.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _answer_something(page) -> None:
    for form in page.locator("form").all():
        for box in form.locator("input[type=radio], input[type=checkbox]").all()[:1]:
            box.check()
        for field in form.locator("input:not([type])").all():
            field.fill("591")
        form.locator(".mb-go button").first.click()


def test_numbers_say_how_they_were_read(browser, site):
    with opened(browser, f"{site}/index.html") as page:
        ridge = page.locator('form[data-q="ridge"]')
        time = page.locator('form[data-q="reading-time"]')
        for form, typed, said in [
            (ridge, "fast", "I cannot read 'fast'"),
            (ridge, "295 spoons", "I do not know the unit 'spoons'; this answer is in FLOP/B."),
            (ridge, "about 295 FLOPs per byte", "Right. Read as 295 FLOP/B."),
            (ridge, "5 GB", "'5 GB' measures B; this answer is in FLOP/B."),
            (ridge, "590.7", "sparse peak"),
            (ridge, "29.5", "Too low, by a factor of 10."),
            (ridge, "295", "Right. Read as 295 FLOP/B."),
            (time, "4.78", "Right. Read as 4.78 ms."),
            (time, "9", "Read as 9 s. Did you mean 9 ms?"),
            (time, "4.78 s", "factor of 1000"),
            (time, "4.78 MS", "upper and lower case matter: ms?"),
            (time, "16/3350", "Right. Read as 0.00477612 s."),
        ]:
            form.locator("input").fill(typed)
            form.locator("input").press("Enter")
            assert said in form.locator("[role=status]").inner_text(), typed


def test_first_try_is_remembered(browser, site):
    with opened(browser, f"{site}/index.html") as page:
        page.locator('form[data-q="bound"] input').first.check()
        page.locator('form[data-q="bound"] button').first.click()
        score = page.locator('[data-quiz="roofline.first"] .mb-s')
        assert "1 of 3 right, 1 at the first try. This page: 1 of 6 right" in score.inner_text()


def test_a_sandboxed_frame_without_storage(browser, site):
    with opened(browser, f"{site}/framed.html") as page:
        frame = page.frame_locator("iframe")
        form = frame.locator('form[data-q="bound"]')
        form.locator("input").first.check()
        form.locator("button").first.click()
        assert "Right." in form.locator("[role=status]").inner_text()
        assert "1 of 3 right" in frame.locator(".mb-s").inner_text()
        frame.locator(".mb-f button").click()
        assert "0 of 3 right" in frame.locator(".mb-s").inner_text()


def test_keys_do_not_reach_the_notebook(browser, site):
    with opened(browser, f"{site}/index.html") as page:
        page.evaluate("addEventListener('keydown', e => { window.leaked = e.key; })")
        page.locator('form[data-q="ridge"] input').press("a")
        assert page.evaluate("window.leaked") is None


def test_stored_rubbish_does_not_break_the_page(browser, site):
    with opened(browser, f"{site}/index.html") as page:
        page.evaluate(
            """() => {
                localStorage["moving-bytes:quiz:bound"] = "{not json";
                localStorage["moving-bytes:quiz:levels"] = JSON.stringify({a: [0, 9, 1, 2]});
                localStorage["moving-bytes:quiz:true-ones"] = JSON.stringify({a: 7});
                localStorage["moving-bytes:quiz:ridge"] = JSON.stringify({a: [1]});
            }"""
        )
        page.reload()
        for id in ("bound", "levels", "true-ones", "ridge"):
            assert page.locator(f'form[data-q="{id}"] .mb-go button').count() == 1
        assert page.locator('form[data-q="levels"] .mb-o > li').count() == 4


@pytest.mark.parametrize("how", ["no script", "print"])
def test_readable_without_a_script_and_in_print(browser, site, how):
    context = {"java_script_enabled": False} if how == "no script" else {}
    with opened(browser, f"{site}/index.html", **context) as page:
        if how == "print":
            page.emulate_media(media="print")
        else:
            assert page.locator("button").count() == 0
            assert page.locator("form input:visible").count() == 0
            for summary in page.locator("summary").all():
                summary.click()
        for text in ("Reading the weights", "Each weight is used for", "295", "Tera is", "209"):
            assert page.get_by_text(text).first.is_visible(), text
        assert page.locator("button:visible").count() == 0
