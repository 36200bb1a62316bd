"""Replays: the record gives back every frame, what is drawn is what is said, misuse is named."""

from __future__ import annotations

import gzip
import itertools
import re
from html import escape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_samples import SAMPLES, all_panels

from helpers.book.replay import (
    Block,
    Blocks,
    Facts,
    Frame,
    Lanes,
    Look,
    Record,
    Run,
    Span,
    Token,
    Tokens,
    replay,
    replays_on_page,
)
from helpers.book.replay.component import engine, style_sheet
from helpers.book.replay.panels import PATTERNS

RUNS = [run for made in SAMPLES.values() for run in made.runs.values()]
some_looks = st.builds(
    Look,
    st.one_of(st.none(), st.sampled_from(["", "A", '"<&|', "é⏎"])),
    st.sampled_from(["", "o1", "o1 shared"]),
    st.one_of(st.none(), st.sampled_from(["0%", "37.5%"])),
)


class Elements(HTMLParser):
    """The elements with data-v as an HTML parser sees them: text (None if others inside), kind,
    style."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[list | None] = []
        self.found: list[list] = []
        self.feed(html)
        assert not self.open, "something is not closed"

    def handle_starttag(self, tag, attributes):
        if self.open and self.open[-1]:
            self.open[-1][0] = None
        attributes = dict(attributes)
        entry = None
        if "data-v" in attributes:
            entry = ["", attributes["data-v"], attributes.get("style")]
            self.found.append(entry)
        self.open.append(entry)

    def handle_data(self, data):
        if self.open and self.open[-1] and self.open[-1][0] is not None:
            self.open[-1][0] += data

    def handle_endtag(self, tag):
        self.open.pop()


# ---- the record ----------------------------------------------------------------------------------


@given(st.integers(0, 6).flatmap(lambda n: st.lists(st.lists(some_looks, min_size=n, max_size=n),
                                                    min_size=1, max_size=8)))  # fmt: skip
def test_the_record_gives_back_every_frame(frames):
    record = Record.of(frames)
    again = Record.from_data(record.to_data())
    for number, frame in enumerate(frames):
        assert record.frame(number) == frame
        assert again.frame(number) == frame


def test_only_changes_are_recorded():
    frame = [Look(str(i)) for i in range(50)]
    changed = [*frame[:7], Look("x"), *frame[8:]]
    assert Record.of([frame, frame, changed]).steps == ((), (7, 50))


@pytest.mark.parametrize("run", RUNS)
def test_the_record_is_what_is_drawn(run):
    """An HTML parser finds, in each frame as Python draws it, the looks that the page applies."""
    for number in range(len(run)):
        right = [
            [look.text, look.kind, look.size and f"--v:{look.size}"]
            for look in run.record.frame(number)
        ]
        assert Elements(run.html(number)).found == right


@pytest.mark.parametrize("run", RUNS)
def test_frames_differ_in_their_looks_only(run):
    """Nothing outside the elements may change: the page could not follow."""

    def bare(html):
        html = re.sub(r' data-v="[^"]*"( style="--v:[^"]*")?', " @", html)
        return re.sub(r"( @>)[^<]*", r"\1", html)

    assert len({bare(run.html(number)) for number in range(len(run))}) == 1


# ---- the component -------------------------------------------------------------------------------


@pytest.mark.parametrize("made", SAMPLES.values(), ids=SAMPLES)
def test_the_page_holds_the_record_and_all_words(made):
    assert made._repr_html_() == made.html
    assert replays_on_page(made.html) == {made.name: made.data}
    for run in made.runs.values():
        for text in run.says:
            assert f"<li>{escape(text, quote=False)}</li>" in made.html
    assert " id=" not in made.html
    assert not re.search(r"https?:|url\(|#[0-9a-f]{6}", made.html.split("</style>", 1)[1])
    first = next(iter(made.runs.values()))
    assert made.html.count(first.html(0)) == 1


def test_two_builds_are_equal_to_the_byte():
    import importlib

    import replay_samples

    before = all_panels.html
    assert importlib.reload(replay_samples).all_panels.html == before


def test_the_script_and_the_style_are_small_and_shared():
    assert len(gzip.compress(engine().encode(), 6)) < 2_000
    assert len(style_sheet()) < 12_000
    for made in SAMPLES.values():
        assert f'<script type="module" data-mb="replay">{engine()}</script>' in made.html
        assert f'<style data-mb="replay">{style_sheet()}</style>' in made.html


def test_a_long_replay_stays_light():
    """150 frames of 24 blocks, 6 lanes and 90 tokens: under 45 kB, of which 11 are shared."""
    frames = []
    for step in range(150):  # each request fills its four blocks slot by slot
        written = [min(16, max(0, step // 2 - 16 * (i // 6))) for i in range(24)]
        blocks = [Block("ABCDEF"[i % 6], n) if n else None for i, n in enumerate(written)]
        tokens = [Token(f"tok{i}", "held") for i in range(step * 90 // 150)]
        says = f"Step {step} decodes one token for each of 6 requests; A's is {step}."
        states = {"facts": [step, 6, 0], "lanes": step, "blocks": blocks, "tokens": tokens}
        frames.append(Frame(says, states))
    spans = [Span(i, 20 * i, 20 * i + 20, "p") for i in range(6)]
    panels = {
        "facts": Facts("Engine", ["step", "running", "waiting"]),
        "lanes": Lanes("R", names="ABCDEF", length=150, spans=spans, kinds={"p": ("solid", "p")}),
        "blocks": Blocks("KV cache", count=24, size=16, owners="ABCDEF"),
        "tokens": Tokens("Tokens", {"held": "held"}),
    }
    made = replay("long", "Long", "Panels.", Run(panels, frames))
    assert len(made.html.encode()) < 45_000
    assert len(gzip.compress(made.html.encode(), 6)) < 12_000


def test_text_is_escaped():
    run = Run({"f": Facts("<b>", ["</span>"])}, [Frame("<i> & </script>", {"f": ["<script>"]})])
    html = replay("x", 'A "<title>"', "<alt>", {"<one>": run}, caption="<u> *em*").html
    body = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"<(b>|i>|title|alt|u>|one|script)", body)
    assert "<em>em</em>" in body
    assert replays_on_page(html)["x"]["runs"][0]["name"] == "<one>"
    assert html.count("</script>") == 2


@pytest.mark.parametrize("text", ["]);", "p[0]);", '"]);</', "\\]);"])
def test_the_data_is_found_whatever_its_texts_hold(text):
    shown = [[Token(text, "held")], [Token(text, "held"), Token("x", "held")]]
    frames = [Frame(f"Now {text}", {"t": tokens}) for tokens in shown]
    made = replay("a", "A", text, Run({"t": Tokens("T", {"held": "held"})}, frames))
    assert replays_on_page(made.html + all_panels.html)["a"] == made.data


def test_replays_without_data_or_with_one_name_are_refused():
    with pytest.raises(ValueError, match="twice"):
        replays_on_page(all_panels.html * 2)
    with pytest.raises(ValueError, match="no data"):
        replays_on_page('<div class="mb mb-replay" data-mb-name="a">')


# ---- the panels ----------------------------------------------------------------------------------


def test_no_meaning_by_colour_alone():
    """Blocks of different owners differ in words, kinds of spans in pattern, tokens in kind."""
    memory = Blocks("C", count=4, size=4, owners="ABCDEFG")
    states = [[Block("A", 4), Block("F", 4), Block("A", 4, True), Block("AB", 4)]]
    looks = memory.looks(states)[0]
    assert looks[0].kind == looks[1].kind  # more owners than colours
    assert len({look.text for look in looks}) == 4
    css = style_sheet()
    for pattern in PATTERNS:
        assert f".mb-y-lanes .{pattern}{{" in css
    for kind in Tokens.KINDS:
        assert f"[data-v~={kind}],[data-k~={kind}])" in css or kind == "held"


def test_tokens_to_come_take_their_room():
    """Where a text will grow nothing may move when it does."""
    run = all_panels.runs[""]
    looks = run.looks["tokens"]
    assert len({len(frame) for frame in looks}) == 1
    for before, after in itertools.pairwise(looks):
        for a, b in zip(before, after, strict=True):
            if a.kind == "off" and b.kind != "off":
                assert a.text == b.text


def test_a_shared_block_says_by_how_many():
    memory = Blocks("C", count=3, size=4, owners="ABC")
    state = [Block("AB", 4), Block("ABC", 4), Block("C", 0)]
    assert [look.text for look in memory.looks([state])[0]] == ["A+B", "×3", "C"]


# ---- misuse --------------------------------------------------------------------------------------

FACTS = Facts("F", ["n"])
ONE = [Frame("Something.", {"f": [1]})]
KINDS = {"p": ("solid", "prefill")}


def lanes(**changes):
    settings = {"names": ["A"], "length": 5, "spans": [], "kinds": KINDS, **changes}
    return Lanes("L", **settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Run({}, ONE), "panels: none"),
        (lambda: Run({"f": FACTS}, []), "frames: none"),
        (lambda: Run({"f": FACTS}, [Frame(" ", {"f": [1]})]), r"frames\[0\].says: ' '"),
        (lambda: Run({"f": FACTS}, [Frame("x", {"g": [1]})]), r"the panels are \['f'\]"),
        (lambda: Run({"f": FACTS}, [Frame("x", {"f": [1, 2]})]).record, "2 facts; there are 1"),
        (lambda: Run({"f": FACTS}, ONE).html(1), "number: 1 is no frame"),
        (lambda: Run({"f": FACTS}, ONE).record.frame(-1), "number: -1 is no frame"),
        (lambda: Blocks("C", count=0, size=4, owners="A"), "count: 0"),
        (lambda: Blocks("C", count=1, size=2.5, owners="A"), "size: 2.5"),
        (lambda: Blocks("C", count=1, size=4, owners="A").looks([[]]), "0 blocks; there are 1"),
        (lambda: Blocks("C", count=1, size=4, owners="A").looks([[Block("B", 1)]]), "'B' is unkno"),
        (lambda: Blocks("C", count=1, size=4, owners="A").looks([[Block("", 1)]]), "is unknown"),
        (lambda: Blocks("C", count=1, size=4, owners="A").looks([[Block("A", 5)]]), "filled: 5"),
        (lambda: lanes(length=0), "length: 0"),
        (lambda: lanes(kinds={"p": ("red", "x")}), "allowed are solid"),
        (lambda: lanes(spans=[Span(0, 0, 1, "q")]), "kind is unknown"),
        (lambda: lanes(spans=[Span(1, 0, 1, "p")]), "lane is unknown"),
        (lambda: lanes(spans=[Span(0, 0, 6, "p")]), "end by 5"),
        (lambda: lanes(spans=[Span(0, 2, 2, "p")]), "must start"),
        (lambda: lanes(spans=[Span(0, 1, 3, "p"), Span(0, 2, 4, "p")]), "ends, at 3"),
        (lambda: lanes().looks([5.1]), "time 5.1; allowed is 0 to 5"),
        (lambda: Tokens("T", {"helt": "x"}), "'helt' is unknown"),
        (lambda: Tokens("T", {}).looks([[Token("a", "")]]), "'' is unknown"),
        (lambda: replay("A b", "t", "a", Run({"f": FACTS}, ONE)), "name: 'A b'"),
        (lambda: replay("a", " ", "a", Run({"f": FACTS}, ONE)), "title: ' '"),
        (lambda: replay("a", "t", "", Run({"f": FACTS}, ONE)), "alt: ''"),
        (lambda: replay("a", "t", "a", {}), "runs: none"),
        (lambda: replay("a", "t", "a", Run({"f": FACTS}, ONE), pause_ms=50), "pause_ms: 50"),
    ],
)
def test_misuse_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_run_must_be_one():
    with pytest.raises(TypeError, match="list; a Run is needed"):
        replay("a", "t", "a", {"x": []})
