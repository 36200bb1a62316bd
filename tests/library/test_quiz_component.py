"""The component's HTML, and its script's numbers against Python's."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import pytest
import quiz_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.book import quiz
from helpers.book.quiz import answers, component
from helpers.book.quiz.bank import Bank
from helpers.book.quiz.richtext import as_plain, inline, paragraphs
from helpers.catalog import quantities

py_mini_racer = pytest.importorskip("py_mini_racer")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return Bank(quiz_samples.write(tmp_path_factory.mktemp("bank")))


def html_of(sample, group="first") -> str:
    return quiz.show("roofline", group, source=sample)._repr_html_()


class Outline(HTMLParser):
    """Tags in order, and the nesting proved."""

    VOID = frozenset({"input", "br", "img", "meta", "hr", "mspace"})

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: quiz.show("roofline", "first", source=s),
        lambda s: quiz.show("roofline", "second", source=s),
        lambda s: quiz.predictions("roofline", source=s),
        lambda s: quiz.predictions_return("roofline", source=s),
    ],
)
def test_html_is_well_formed_the_same_each_time_and_asks_nobody(sample, make):
    page = make(sample)._repr_html_()
    assert page == make(sample)._repr_html_()
    outline = Outline(page)
    assert not [a for _, a in outline.tags if {"src", "href", "id"} & set(a)]
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", page)
    colours = re.findall(r"#[0-9a-fA-F]{3,8}\b", page.replace(component.style.tokens_css(), ""))
    assert not colours


def test_every_question_is_a_fieldset_with_labelled_controls(sample):
    outline = Outline(html_of(sample) + html_of(sample, "second"))
    assert outline.count("fieldset") == outline.count("legend") == outline.count("form") == 6
    assert outline.count("input") == outline.count("label") == 3 + 4 + 1 + 1 + 3


def test_reasons_of_every_option_stand_in_the_page(sample):
    for group in ("first", "second"):
        page = html_of(sample, group)
        for question in sample.group("roofline", group):
            for field in ("options", "lines", "items", "common_errors"):
                for entry in getattr(question, field, ()):
                    assert paragraphs(entry.reason) in page
            assert paragraphs(question.explanation) in page


def test_text_plain_is_short(sample):
    view = quiz.show("roofline", "first", source=sample)
    assert repr(view) == "<Check yourself: first: shown as HTML>"


def test_a_planted_script_stays_text(tmp_path):
    planted = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    text = quiz_samples.SAMPLE.replace("The tensor cores", planted).replace(
        "They wait.", "</details></form>" + planted
    )
    page = html_of(Bank(quiz_samples.write(tmp_path, text)))
    outline = Outline(page)
    assert outline.count("script") == 2
    assert outline.count("img") == 0
    assert page.count("&lt;script&gt;") == 2


def test_the_payload_cannot_end_its_script(tmp_path):
    text = quiz_samples.SAMPLE.replace("id: bound", "id: bound")
    view = quiz.show("roofline", "first", source=Bank(quiz_samples.write(tmp_path, text)))
    view._data["x"] = "</script><b>"
    assert Outline(view._repr_html_()).count("b") == Outline(html_of_view(view)).count("b")


def html_of_view(view) -> str:
    del view._data["x"]
    return view._repr_html_()


def test_predictions_do_not_tell_the_answer(sample):
    page = quiz.predictions("roofline", source=sample)._repr_html_()
    back = quiz.predictions_return("roofline", source=sample)._repr_html_()
    assert "209" not in page.split("</style>")[-1].split("<script")[0]
    assert "209\u00a0token/s" in back and "24\u00a0ms" in back


def test_a_chapter_without_guesses_says_so(tmp_path):
    text = quiz_samples.SAMPLE.split("  - id: first-guess")[0]
    source = Bank(quiz_samples.write(tmp_path, text))
    with pytest.raises(ValueError, match="'roofline' has no questions of type predict"):
        quiz.predictions("roofline", source=source)


def test_weight(tmp_path):
    """A page of 8 groups and 30 questions, shared blocks once, stays under 90 KB."""
    assert len(component.shared_js()) < 11_200
    assert len(component.shared_css()) < 4_096
    pages = 0
    for i in range(8):
        text = quiz_samples.SAMPLE.replace("- id: ", f"- id: q{i}-")
        folder = tmp_path / str(i)
        folder.mkdir()
        view = quiz.show("roofline", "first", source=Bank(quiz_samples.write(folder, text)))
        pages += len(view._body.encode()) + len(json.dumps(view._data))
    shared = len(component.shared_js()) + len(component.shared_css()) + 2_000
    assert shared + pages * 30 / (8 * 3) < 90_000


# the little markup


def test_markup():
    assert inline("**a** *b* `c*d*` 2 * 3 * 4") == "<b>a</b> <em>b</em> <code>c*d*</code> 2 * 3 * 4"
    assert inline("**a `b` *c* d**") == "<b>a <code>b</code> <em>c</em> d</b>"
    assert inline(r"\$2 and \*") == "$2 and *"
    assert inline("{} **{}**") == "{} <b>{}</b>"
    assert inline("$a < b$").startswith("<math") and "&lt;" in inline("$a < b$")
    assert paragraphs("a\nb\n\nc") == "a b<br><br>c"
    assert as_plain("**a** $\\beta$ `c`") == "a \\beta c"


@given(st.text(alphabet="ab*`<>&\"'\\ \n{}", max_size=40))
def test_markup_never_lets_a_tag_through(text):
    left = re.sub(r"</?(b|em|code|br)>", "", paragraphs(text))
    assert "<" not in left
    assert re.sub(r"&(amp|lt|gt);", "", left).count("&") == 0


# the browser's numbers are Python's


@pytest.fixture(scope="module")
def js():
    engine = py_mini_racer.MiniRacer()
    engine.eval(component.number_js().replace("const ", "var "))
    return lambda name, *args: json.loads(
        engine.eval(f"JSON.stringify({name}({','.join(json.dumps(a) for a in args)})) || 'null'")
    )


def python_read(text: str, unit: str):
    try:
        reading = answers.read_answer(text, unit)
    except ValueError:
        return None
    return reading


def same(js, text: str, unit: str) -> None:
    ours, theirs = python_read(text, unit), js("read", text, unit)
    if ours is None:
        assert "error" in theirs, (text, unit, theirs)
        assert theirs["error"]
        return
    assert "error" not in theirs, (text, unit, ours, theirs)
    assert (theirs["base"], theirs["bare"]) == (ours.base, ours.bare), (text, unit)
    assert theirs["v"] == pytest.approx(ours.value, rel=4e-16 * 3, abs=1e-300), (text, unit)
    assert js("joined", theirs["v"], ours.base).split(" ")[1:] == answers.said(ours).split(" ")[1:]


TYPED = """3.35e12|3.35 TB/s|1/3|1,024|2^30|2**30|5%|80 GiB|80 GB|80GiB|80 gb|.5|5.|-3|+3|1e-3 s|
3,35|1,0240|1e|e5|--3|TB/s||  |0|-0|1/0|0/3|1e400|2^9999|2^-3|3.35 x 10^12|3.35*10^12 B/s|
3.35×10^12 B/s|3 · 10^-3 s|10^12|10^12 B/s|2^30 B|2^30B|1/3 s|2/3e3|1.5/2.5 ms|12 µs|12 us|7 min|
1 h|3 d|1 Wh|400 Gbit/s|400 Gb/s|1 KB|1 kB|1 KiB|5 MiB/s|5 pB|295 FLOP/B|295 FLOP/byte|2 TFLOPS|
2 TFLOP|2 TFLOP/s|$2.5/h|$3|2.5 USD/h|2.5 $/h|70 %|0.7|12 tok/s|12 tokens/s|8 Gparam|1 000|1_000|
3.35 TB/s extra|NaN|Infinity|0x10|1e3 GB|12,345,678.5 B|-5 ms|−5 ms|5\u00a0ms|2^0.5|1/3/4|3 mm2|
4 J/token|1e-400|1e99999|1e-99999|0^-1|9 pJ/B|0.1 EFLOP/s|2 ^ 10|2 ** 10 KiB|1.5^2|3e|3 e5|50 %% |
constructor|5 constructor|__proto__|5 toString|about 100|~3 GB|42 percent|295 FLOP per byte|
2 GFLOPs|4.5 milliseconds|32x|32 times|35 chips|35 million|12 tokens per second|5 bytes|7 per|
3 s per chip|33,3|3,35 TB/s|0,333|0,5 GB|-1,5|12,34,567|1234,567|1,5e3|3,35 x 10^12|1,234.5|
1,234 TB/s|33,|,5|1,5,5|1,23.4|33,3%"""


@pytest.mark.parametrize(
    "unit", ["B/s", "TB/s", "GiB", "ms", "FLOP/B", "", "%", "USD/h", "token/s"]
)
def test_reading_is_the_same_in_both(js, unit):
    for text in TYPED.replace("\n", "").split("|"):
        same(js, text, unit)


UNITS = sorted(
    {p + s for s, q in quantities._SYMBOLS.items() for p in q.prefixes if s}
    | {
        p + s
        for s, q in quantities._SYMBOLS.items()
        if q.binary
        for p in quantities.BINARY_PREFIXES
    }
)


def test_every_unit_has_the_same_size_in_both(js):
    for text in UNITS:
        base, size = answers.unit_scale(text)
        assert js("unit", text)[0] == base, text
        assert js("scale", text) == pytest.approx(size, rel=1e-15), text


@settings(max_examples=300, deadline=None)
@given(
    number=st.one_of(
        st.floats(1e-9, 1e9).map(lambda x: f"{x:.6g}"),
        st.floats(1e-9, 1e9).map(repr),
        st.integers(0, 10**9).map(lambda n: f"{n:,}"),
        st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda p: f"{p[0]}/{p[1]}"),
        st.tuples(st.integers(0, 20), st.integers(-20, 60)).map(lambda p: f"{p[0]}^{p[1]}"),
    ),
    gap=st.sampled_from(["", " ", "\u00a0"]),
    unit=st.one_of(st.sampled_from(["", *UNITS]), st.text("kKMGiBbTs/FLOP %", max_size=5)),
    wanted=st.sampled_from(["B/s", "GiB", "ms", "", "%", "FLOP/B"]),
)
def test_reading_is_the_same_for_many(js, number, gap, unit, wanted):
    same(js, number + gap + unit, wanted)


@settings(max_examples=300, deadline=None)
@given(
    value=st.floats(1e-6, 1e6),
    ratio=st.one_of(
        st.sampled_from([k for k, _ in answers.FACTORS]), st.floats(0.2, 5), st.just(1.0)
    ),
    invert=st.booleans(),
    unit=st.sampled_from(["TB/s", "B/s", "ms", "GiB", "FLOP/B", ""]),
    bare=st.booleans(),
    relative=st.sampled_from([0.0, 0.02, 0.1]),
    absolute=st.sampled_from([0.0, 0.5]),
)
def test_judging_is_the_same_in_both(js, value, ratio, invert, unit, bare, relative, absolute):
    base, size = answers.unit_scale(unit)
    answer = value * size
    typed = answer / ratio if invert else answer * ratio
    if bare:
        typed /= size
    errors = [answer * 1.5, answer * 3]
    ours = answers.judge(
        answers.Reading(typed, base, bare), answer, unit, relative, absolute, errors
    )
    got = {"v": typed, "base": base, "bare": bare}
    theirs = js("judge", got, {"a": answer, "u": unit, "r": relative, "s": absolute, "e": errors})
    assert theirs[0] == ours.state
    assert (theirs[2] if len(theirs) > 2 else None) == ours.error
    assert _loose(theirs[1]) == _loose(ours.message)


def _loose(message: str) -> list:
    """Words, with numbers cut to two digits: ties of the last digit may round either way."""
    parts = re.split(r"(\d[\d.e-]*\d|\d)", message)
    return [float(f"{float(p):.1g}") if re.match(r"\d", p) else p for p in parts]


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-12, 1e15), st.integers(2, 6))
def test_numbers_are_written_the_same_in_both(js, value, digits):
    assert js("plain", value, digits) == answers.plain(value, digits)


@settings(max_examples=200, deadline=None)
@given(st.floats(-30, 30))
def test_misses_are_worded_the_same_in_both(js, powers):
    assert js("miss", 2**powers * 7.0, 7.0) == answers.miss(2**powers * 7.0, 7.0)


def test_a_miss_counts_powers_of_two():
    assert answers.miss(7.0, 7.0) == "on the spot"
    assert answers.miss(14.0, 7.0) == "1.0 power of two too high, a factor of 2"
    for powers in (-3.0, -0.5, 2.2, 10.0):
        words = answers.miss(2**powers, 1.0)
        assert words.startswith(f"{abs(powers):.1f} power")
        assert ("high" in words) == (powers > 0)


def test_squeeze_changes_nothing_that_matters():
    ours = (component._HERE / "answers.js").read_text(encoding="utf-8")
    engine = py_mini_racer.MiniRacer()
    head = f"const TABLE={json.dumps(component.unit_table())},FACTORS=[[8,'x']],WORDS=[],NOUN='';"
    judged = 'judge({v:8,base:"B",bare:true},{a:1,u:"B",r:0,s:0,e:[]})'
    probe = f'JSON.stringify([read("3.35 x 10^12","B/s"),{judged},plain(1e-9),miss(3,7)])'
    plain = engine.eval(f"(()=>{{{head}\n{ours}\nreturn {probe}}})()")
    assert engine.eval(f"(()=>{{{head}\n{component.squeeze(ours)}\nreturn {probe}}})()") == plain
    assert math.isclose(json.loads(plain)[0]["v"], 3.35e12)


@pytest.mark.parametrize(
    ("typed", "unit", "value"),
    [
        ("about 100", "", 100.0),
        ("42 percent", "%", 0.42),
        ("295 FLOPs per byte", "FLOP/B", 295.0),
        ("4.5 milliseconds", "s", 0.0045),
        ("32x", "", 32.0),
        ("35 chips", "", 35.0),
    ],
)
def test_numbers_are_read_as_people_write_them(typed, unit, value):
    assert answers.read_answer(typed, unit).value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("typed", "unit", "point"),
    [
        ("33,3", "", "33.3"),
        ("3,35 TB/s", "TB/s", "3.35 TB/s"),
        ("0,333", "", "0.333"),
        ("-1,5", "", "-1.5"),
        ("1234,567 B", "B", "1234.567 B"),
    ],
)
def test_a_decimal_comma_is_named_in_both(js, typed, unit, point):
    said = f"'{typed}' has a comma; write {point}: a point, not a comma."
    with pytest.raises(ValueError) as error:
        answers.read_answer(typed, unit)
    assert str(error.value) == js("read", typed, unit)["error"] == said
    assert answers.read_answer("1,024", "").value == js("read", "1,024", "")["v"] == 1024


@pytest.mark.parametrize(
    ("unit", "asked"),
    [("TB/s", True), ("GiB", True), ("ms", False), ("FLOP/B", False), ("", False)],
)
def test_kib_is_asked_about_only_where_bytes_are_counted(js, unit, asked):
    base, size = answers.unit_scale(unit)
    reading = answers.Reading(100 * size * 1.024**3, base, False)
    ours = answers.judge(reading, 100 * size, unit, 0.01, 0).message
    query = {"a": 100 * size, "u": unit, "r": 0.01, "s": 0, "e": []}
    assert js("judge", {"v": reading.value, "base": base, "bare": False}, query)[1] == ours
    assert ("GB or GiB?" in ours) == asked


def test_a_number_word_is_not_dropped():
    with pytest.raises(ValueError, match="million"):
        answers.read_answer("35 million", "")


def test_a_bare_number_may_be_in_the_unit_that_is_shown(js):
    reading = answers.read_answer("42", "%")
    assert answers.judge(reading, 0.42, "%", 0.01, 0).state == "right"
    query = {"a": 0.42, "u": "%", "r": 0.01, "s": 0, "e": []}
    assert js("judge", {"v": 42, "base": "", "bare": True}, query) == ["right", "Read as 42%."]
