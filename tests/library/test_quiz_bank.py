"""The question bank: what it accepts, computes and refuses."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import quiz_samples
import yaml

from helpers.book.exercise import check
from helpers.book.quiz import values
from helpers.book.quiz.__main__ import main
from helpers.book.quiz.bank import FOLDER, Bank, QuestionError, bank

SAMPLE = yaml.safe_load(quiz_samples.SAMPLE)


def entry(id: str) -> dict:
    """A fresh copy of one sample question as plain data."""
    return next(q for q in yaml.safe_load(quiz_samples.SAMPLE)["questions"] if q["id"] == id)


def load(tmp_path: Path, *questions: dict) -> Bank:
    text = yaml.safe_dump({"chapter": "roofline", "questions": list(questions)})
    return Bank(quiz_samples.write(tmp_path, text))


@pytest.fixture
def sample(tmp_path):
    return Bank(quiz_samples.write(tmp_path))


def test_every_type_loads_in_the_order_of_the_file(sample):
    assert [q.id for q in sample] == [q["id"] for q in SAMPLE["questions"]]
    assert [q.id for q in sample.group("roofline", "first")] == ["bound", "true-ones", "ridge"]
    assert [q.id for q in sample.predictions("roofline")] == ["first-guess", "second-guess"]


def test_answers_are_computed(sample):
    assert sample.question("ridge").number() == pytest.approx(989.4 / 3.35, rel=1e-12)
    assert sample.question("reading-time").number() == pytest.approx(16 / 3350, rel=1e-12)
    assert sample.question("second-guess").number() == pytest.approx(0.024, rel=1e-12)
    assert sample.question("ridge").allowed() == pytest.approx(0.02 * 989.4 / 3.35)


def test_prose_takes_its_numbers_from_values(sample):
    question = sample.question("ridge")
    shown = question.prose(question.text).replace("\u00a0", " ")
    assert shown == "989 TFLOP/s and 3.35 TB/s: where does the roofline bend?"


def test_order_is_shuffled_the_same_way_each_time_and_never_solved(tmp_path):
    for i in range(60):
        question = load(tmp_path, {**entry("levels"), "id": f"levels-{i}"}).question(f"levels-{i}")
        assert sorted(question.shown) == [0, 1, 2, 3]
        assert question.shown != (0, 1, 2, 3)
        assert question.shown == question.shown


def change(sample_id: str, /, **fields) -> dict:
    return {k: v for k, v in {**entry(sample_id), **fields}.items() if v is not None}


def option(right: bool, text: str) -> dict:
    return {"text": text, "right": right, "reason": "because"}


REFUSED = {
    "two right": (
        change("bound", options=[option(True, "a"), option(True, "b"), option(False, "c")]),
        "question 'bound', field options: 2 options are right; a single choice has exactly one",
    ),
    "none right": (
        change("bound", options=[option(False, c) for c in "abc"]),
        "field options: 0 options are right",
    ),
    "all right": (
        change("true-ones", options=[option(True, c) for c in "abc"]),
        "3 of 3 options are right; at least one must be right and at least one wrong",
    ),
    "option twice": (
        change("bound", options=[option(True, "a"), option(False, "b"), option(False, "b")]),
        "field options: 'b' stands twice",
    ),
    "no reason": (
        change("bound", options=[{"text": "a", "right": True}, *entry("bound")["options"][1:]]),
        "field options.0.reason: is missing",
    ),
    "empty reason": (
        change(
            "bound", options=[{**option(True, "a"), "reason": " "}, *entry("bound")["options"][1:]]
        ),
        "field options.0.reason: ' ': String should have at least 1 character",
    ),
    "two wrong lines": (
        change("slip", lines=[{**line, "wrong": True} for line in entry("slip")["lines"]]),
        "3 lines are marked wrong: true; exactly one must be",
    ),
    "unknown type": (
        change("bound", type="choice"),
        "field type: 'choice' is not one of single, several, number",
    ),
    "unknown field": (change("bound", hints="x"), "field hints: 'x': not a field here; a"),
    "difficulty": (change("bound", difficulty=4), "field difficulty: 4: Input should be 1, 2 or 3"),
    "bad id": (change("bound", id="Bound It"), "question 'Bound It', field id: 'Bound It'"),
    "unknown unit": (change("ridge", unit="flop/byte"), "field unit: 'flop/byte'"),
    "wrong kind of unit": (
        change("reading-time", answer="3 GB"),
        "field answer: '3 GB' is in B, but unit says 'ms'",
    ),
    "check value": (
        change("ridge", check_value=590),
        "field check_value: 590 typed, but the answer computes to 295.343",
    ),
    "unknown name": (
        change("reading-time", answer="= weigths / bandwidth"),
        "field answer: name: 'weigths' is not known in values; did you mean weights",
    ),
    "not arithmetic": (
        change("reading-time", answer="= __import__('os')"),
        "field answer: function: '__import__' is not known",
    ),
    "attribute": (change("reading-time", answer="= weights.real"), "'weights.real' is not allowed"),
    "no such formula": (
        change("ridge", answer={"formula": "roofline.ridge_pont"}),
        "'ridge_pont' is not known; did you mean ridge_point",
    ),
    "argument of another unit": (
        change(
            "ridge",
            answer={
                "formula": "roofline.ridge_point",
                "args": {"peak_flops_per_s": "bandwidth", "bandwidth_bytes_per_s": "peak"},
            },
        ),
        "bandwidth_bytes_per_s is in B/s, but gets FLOP/s",
    ),
    "error inside the tolerance": (
        change("ridge", common_errors=[{"value": 296, "reason": "close"}]),
        "field common_errors.0.value: 296 lies inside the tolerance",
    ),
    "tolerance": (change("ridge", tolerance="-1%"), "must be above zero"),
    "tolerance of another unit": (change("ridge", tolerance="1 ms"), "measures s"),
    "lone dollar": (change("bound", text="It costs $2."), "field text: a lone dollar sign"),
    "unknown insertion": (change("ridge", text="{{peek}}"), "field text: 'peek' is not a name"),
    "unit twice": (
        change("reading-time", text="{{weights in GB}} GB"),
        "field text: {{weights in GB}} already prints GB",
    ),
    "bad LaTeX": (change("bound", text=r"$\frac{1}$"), "field text: latex"),
    "division by zero": (change("reading-time", answer="= weights / 0"), "field answer"),
    "true is no number": (change("reading-time", answer=True), "field answer: True: "),
    "guess below zero": (change("second-guess", answer=-1.0), "is not positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(tmp_path, name):
    question, message = REFUSED[name]
    with pytest.raises(QuestionError) as error:
        load(tmp_path, question)
    assert str(error.value).startswith("sample.yaml: question")
    assert message in str(error.value)


def test_refuses_an_id_used_in_another_file(tmp_path):
    quiz_samples.write(tmp_path)
    quiz_samples.write(tmp_path, name="other.yaml")
    with pytest.raises(
        QuestionError, match=r"sample.yaml: .*'bound' is already used in other.yaml"
    ):
        Bank(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chapter: a\nquestions: [", "line 2: not valid YAML"),
        ("chapter: a\n\tquestions: []", "sample.yaml, line 2: not valid YAML"),
        ("chapter: a\nquestions: [{[a]: b}]", "sample.yaml: cannot be read"),
        ("- 1", "must have the two keys 'chapter' and 'questions'"),
        ("chapter: a\nquestions: 3", "must be a list"),
        ("chapter: a\nquestions: [3]", "question number 1: 3 is not a mapping"),
        ("chapter: a\nchapter: b\nquestions: []", "the key 'chapter' stands twice"),
    ],
)
def test_refuses_a_broken_file(tmp_path, text, message):
    with pytest.raises(QuestionError, match=re.escape(message)):
        Bank(quiz_samples.write(tmp_path, text))


def test_unknown_names_suggest_the_nearest(sample):
    with pytest.raises(KeyError, match="did you mean ridge"):
        sample.question("rigde")
    with pytest.raises(KeyError, match="did you mean roofline"):
        sample.group("rooflin", "first")
    with pytest.raises(KeyError, match="did you mean first"):
        sample.group("roofline", "frist")


def test_records_do_not_change(sample):
    with pytest.raises(ValueError, match="frozen"):
        sample.question("ridge").text = "other"


def test_arithmetic_equals_python():
    names = {"a": 3.5, "b": 7.0}
    for source in ("a + b*2 - -a", "a / b ** 2", "max(a, b) * min(a, 2)", "ceil(a) + floor(b / 2)"):
        plain = eval(
            source, {"ceil": math.ceil, "floor": math.floor, "max": max, "min": min}, names
        )
        assert values.evaluate(values.parse_spec(f"= {source}"), names) == plain


def test_catalog_paths_give_the_figure_and_the_record():
    from helpers import catalog

    h100 = catalog.chip("h100-sxm")
    assert values.catalog_value("h100-sxm.peak.bf16") == h100.peak("bf16")
    assert values.catalog_value("h100-sxm.bandwidth").unit == "B/s"
    assert values.catalog_value("llama-3.1-8b").id == "llama-3.1-8b"
    assert values.catalog_value("llama-3.1-8b.layers") == 32
    for path in ("h100-sxm.peak.bf1", "h200.bandwith", "nothing.at.all", "h100-sxm.link.nvlink-4"):
        with pytest.raises(ValueError, match=re.escape(path)):
            values.catalog_value(path)


def test_the_format_page_shows_questions_that_load(tmp_path):
    """Authors copy the examples of sample-format.md: each must be in order."""
    page = (FOLDER / "sample-format.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "- id:" in b]
    text = "chapter: roofline\nquestions:\n" + "\n".join(blocks)
    loaded = Bank(quiz_samples.write(tmp_path, text))
    assert {q.type for q in loaded} >= {"single", "number", "order", "find-the-error", "predict"}


def test_the_books_own_questions_are_in_order():
    for question in bank():
        assert question.explanation


# exercises


def exercise(tmp_path, **fields) -> Bank:
    question = {**entry("ridge"), "id": "own-ridge", "group": "exercises", **fields}
    question["values"] = {
        "peak": {"given": "the peak of your machine"},
        "bandwidth": {"given": "its bandwidth"},
    }
    question["text"] = "Where does your roofline bend?"
    question.pop("check_value")
    return load(tmp_path, entry("reading-time"), entry("bound"), question)


def test_check_says_right_and_what_is_off(sample):
    def say(value):
        return check("reading-time", value, source=sample)

    assert say(16 / 3350)
    assert str(say("4.8 ms")).startswith("✓ Right: 4.78 ms, and 0.0048 s is within 3% of it.")
    assert not say("4.8 s")
    assert "factor of 1000" in say("4.8 s").message
    assert "bits or bytes" in say(16 / 3350 * 8).message
    assert "iB" not in say(16 / 3350 * 1.024**3).message  # a time counts no bytes
    assert "a factor of 1.07" in say(16 / 3350 * 1.024**3).message
    assert "dense or sparse" in say(8 / 3350).message
    assert "factor of 5.0" in say(80 / 3350).message or "factor of 5." in say(80 / 3350).message
    assert say(4.776) and "4.776 ms is within" in say(4.776).message
    assert "If you mean 9 ms" in say(9).message
    assert "Nothing to check yet" in say(None).message
    assert "sparse peak" in check("ridge", 591, source=sample).message


def test_check_asks_for_kib_only_where_bytes_are_counted(tmp_path):
    held = {**entry("reading-time"), "answer": "= weights", "unit": "GB"}
    source = load(tmp_path, held)
    assert "GB or GiB?" in check("reading-time", "17.18 GB", source=source).message
    rate = {**entry("reading-time"), "answer": "= bandwidth", "unit": "TB/s"}
    rates = load(tmp_path, rate)
    assert "TB or TiB?" in check("reading-time", "3.683 TB/s", source=rates).message
    assert (
        "iB"
        not in check("ridge", 295.343 * 1.024**2, source=load(tmp_path, entry("ridge"))).message
    )


def test_check_takes_scalars_of_numpy_and_quantities(sample):
    import numpy as np

    from helpers.catalog import Quantity

    assert check("reading-time", np.float32(0.00478), source=sample)
    assert check("reading-time", np.array(0.00478), source=sample)
    assert check("reading-time", Quantity(0.00478, "s"), source=sample)
    with pytest.raises(ValueError, match="it is in B; the answer is in ms"):
        check("reading-time", Quantity(3.0, "B"), source=sample)


@pytest.mark.parametrize("bad", [True, [1.0], object(), 1j])
def test_check_refuses_what_is_no_number(sample, bad):
    with pytest.raises(TypeError, match=r"value: .* is not one number"):
        check("reading-time", bad, source=sample)


def test_check_refuses_bad_text_and_nan(sample):
    with pytest.raises(ValueError, match="value: "):
        check("reading-time", "fast", source=sample)
    with pytest.raises(ValueError, match="not a finite number"):
        check("reading-time", math.nan, source=sample)
    with pytest.raises(KeyError, match="did you mean reading-time"):
        check("reading-tim", 1, source=sample)
    with pytest.raises(KeyError, match="is a single question"):
        check("bound", 1, source=sample)
    with pytest.raises(TypeError, match="is not an id"):
        check(3.5, "reading-time", source=sample)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "abc",
            "value: 'abc' is not a number with a unit, such as '3.35 TB/s', '3.35e12' or '1/3'",
        ),
        (
            "4.8 Gb/s",
            "value: the unit 'Gb/s' is not known; write Gbit/s for bits or GB/s for bytes",
        ),
        ("4,8 ms", "value: '4,8 ms' has a comma; write 4.8 ms: a point, not a comma."),
        ("3 GB", "value: '3 GB' measures B; this answer is in ms."),
    ],
)
def test_check_names_the_value_once(sample, typed, message):
    with pytest.raises(ValueError) as error:
        check("reading-time", typed, source=sample)
    assert str(error.value) == message


def test_names_that_do_not_exist_print_unquoted(sample):
    with pytest.raises(KeyError) as error:
        check("reading-tim", 1, source=sample)
    assert str(error.value).startswith("question: 'reading-tim' is not known; did you mean")
    with pytest.raises(KeyError) as error:
        check("bound", 1, source=sample)
    assert str(error.value) == "exercise: 'bound' is a single question, not a number"


def test_check_names_a_keyword_that_no_exercise_takes(sample):
    with pytest.raises(KeyError, match=r"given: 'foo' is not known to the exercise 'ridge'"):
        check("ridge", 295, source=sample, foo=1)


def test_an_exercise_on_the_readers_machine(tmp_path):
    own = exercise(tmp_path)
    assert check("own-ridge", 10.0, source=own, peak=2e11, bandwidth="20 GB/s")
    assert not check("own-ridge", 11.0, source=own, peak=2e11, bandwidth="20 GB/s")
    with pytest.raises(ValueError, match=r"also needs bandwidth=... \(its bandwidth\)"):
        check("own-ridge", 10.0, source=own, peak=2e11)
    with pytest.raises(KeyError, match=r"given: 'pek' is not known .* did you mean peak"):
        check("own-ridge", 10.0, source=own, pek=2e11, bandwidth=1e9)
    for bad, said in (
        ("x", "peak: 'x' is not a number with a unit"),
        ("3 Gb/s", "peak: the unit 'Gb/s' is not known"),
        (math.nan, "peak: nan is not a finite number"),
    ):
        with pytest.raises(ValueError) as error:
            check("own-ridge", 10.0, source=own, peak=bad, bandwidth=1e9)
        assert str(error.value).startswith(said)


# the check on the command line


PLANTED = {
    "check value": (
        lambda text: re.sub(r"check_value: \S+", "check_value: 9e99", text, count=1),
        r"roofline\.yaml: question '[a-z0-9-]+', field check_value: ",
    ),
    "type": (
        lambda text: re.sub(r"type: single\b", "type: choice", text, count=1),
        r"roofline\.yaml: question '[a-z0-9-]+', field type: 'choice' is not one of single, ",
    ),
    "catalog path": (
        lambda text: text.replace("h100-sxm.bandwidth", "h100-sxm.bandwith", 1),
        r"roofline\.yaml: question '[a-z0-9-]+', field \S+: .*'h100-sxm\.bandwith' is not",
    ),
    "torn": (
        lambda text: text[: text.rindex("explanation:")] + 'text: "torn',
        r"roofline\.yaml, line \d+: not valid YAML: .*; mend the line",
    ),
    "not UTF-8": (lambda text: text.encode("utf-16"), r"roofline\.yaml: cannot be read: 'utf-8'"),
    "no such date": (
        lambda text: text + "    x: 2026-13-45\n",
        r"roofline\.yaml: cannot be read: month",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_command_ends_in_one_clear_message(tmp_path, monkeypatch, capsys, name):
    spoil, said = PLANTED[name]
    for path in FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = (FOLDER / "roofline.yaml").read_text(encoding="utf-8")
    after = spoil(before)
    assert after != before
    after = after if isinstance(after, bytes) else after.encode()
    (tmp_path / "roofline.yaml").write_bytes(after)
    monkeypatch.setattr("sys.argv", ["quiz", str(tmp_path)])
    assert main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.match(said, printed.err), printed.err
    assert printed.err.count("\n") == 1


def test_the_command_counts_the_questions(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["quiz"])
    assert main() == 0
    assert capsys.readouterr().out.endswith(f"{len(bank())} questions, all in order\n")
    monkeypatch.setattr("sys.argv", ["quiz", str(tmp_path)])
    assert main() == 1
    assert "holds no questions" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["quiz", str(tmp_path / "nowhere")])
    assert main() == 1
    assert "is not a folder with question files" in capsys.readouterr().err
