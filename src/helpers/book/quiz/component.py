"""Questions as HTML: readable without a script, answerable with one, on a page or in a notebook."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from helpers.book import style
from helpers.catalog import quantities

from . import answers
from .bank import (
    Bank,
    FindTheError,
    Number,
    Order,
    Predict,
    Question,
    Several,
    Single,
    bank,
)
from .richtext import paragraphs
from .values import evaluate, parse_tolerance, show_number

_HERE = Path(__file__).parent
_LETTERS = "ABCDEFGHIJKLMNOP"


class QuizView:
    """A set of questions that a notebook or a page shows.

    Parameters
    ----------
    name : str
        Identifies the set on its page.
    title : str
        The line above the questions.
    body : str
        The questions as HTML.
    data : dict
        What the script needs: per question its kind and what is right.
    classes : str
        Further classes of the root element.
    """

    def __init__(self, name: str, title: str, body: str, data: dict, classes: str = ""):
        self.name = name
        self.title = title
        self._body = body
        self._data = data
        self._classes = f"mb mb-quiz {classes}".strip()

    def _repr_html_(self) -> str:
        payload = json.dumps(self._data, separators=(",", ":"), ensure_ascii=False)
        payload = payload.replace("<", "\\u003c")
        title = html.escape(self.title, quote=True)
        return (
            f'<style data-mb="tokens">{style.tokens_css()}</style>'
            f'<style data-mb="quiz">{shared_css()}</style>'
            f'<div role="group" aria-label="{title}" class="{self._classes}" '
            f'data-quiz="{self.name}" data-lm-suppress-shortcuts="true">'
            f'<p class="mb-t">{title}</p>{self._body}</div>'
            f'<script type="module" data-mb="quiz">{shared_js()}</script>'
            '<script type="module">(globalThis.mbQuiz??=[])'
            f'.push(["{self.name}",{payload}])</script>'
        )

    def __repr__(self) -> str:
        return f"<{self.title}: shown as HTML>"


def show(
    chapter: str, group: str, *, title: str | None = None, source: Bank | None = None
) -> QuizView:
    """The questions of one group.

    Parameters
    ----------
    chapter : str
        Id of the chapter, ``"roofline"``.
    group : str
        Which of the chapter's groups.
    title : str, optional
        The line above the questions; "Check yourself" and the group's id by default.
    source : Bank, optional
        Another bank than the book's own.

    Returns
    -------
    QuizView
        Shows itself in a notebook.

    Raises
    ------
    KeyError
        If there is no such chapter or group; the message names the nearest.
    """
    questions = (source or bank()).group(chapter, group)
    body = "".join(_question(q, i + 1) for i, q in enumerate(questions))
    data = {q.id: _data(q) for q in questions}
    title = title or f"Check yourself: {group.replace('-', ' ')}"
    return QuizView(f"{chapter}.{group}", title, body, data)


def predictions(chapter: str, *, source: Bank | None = None) -> QuizView:
    """The chapter's guesses, asked before reading on; kept in the browser, never in the way."""
    questions = _predictions(chapter, source)
    body = "".join(_guess(q, i + 1) for i, q in enumerate(questions))
    data = {q.id: {"k": "guess", "u": q.unit} for q in questions}
    return QuizView(f"{chapter}.predict", "Predict first", body, data, "mb-guess")


def predictions_return(chapter: str, *, source: Bank | None = None) -> QuizView:
    """The guesses again, each beside its answer, with the miss in powers of two."""
    questions = _predictions(chapter, source)
    rows = "".join(
        f"<li><p>{_prose(q, q.text)}</p><p><b>Answer: {_shown(q)}.</b> "
        f'<span data-back="{q.id}"></span></p><p>{_prose(q, q.explanation)}</p></li>'
        for q in questions
    )
    back = {q.id: {"a": float(q.number()), "u": q.unit} for q in questions}
    body = f'<ol class="mb-b">{rows}</ol>'
    return QuizView(f"{chapter}.return", "Your guesses return", body, {"back": back}, "mb-guess")


def _predictions(chapter: str, source: Bank | None) -> Sequence[Predict]:
    questions = (source or bank()).predictions(chapter)
    if not questions:
        raise ValueError(f"chapter: {chapter!r} has no questions of type predict")
    return questions


def _prose(question: Question, text: str) -> str:
    return paragraphs(question.prose(text))


def _shown(question: Number | Predict) -> str:
    return html.escape(show_number(question.number(), question.unit, question.digits))


def _form(question: Question, number: int, controls: str, why: str) -> str:
    hint = getattr(question, "hint", None)
    help_ = (
        f'<details class="mb-h"><summary>Hint</summary><p>{_prose(question, hint)}</p></details>'
        if hint
        else ""
    )
    return (
        f'<form data-q="{question.id}"><fieldset><legend><b>{number}.</b> '
        f"{_prose(question, question.text)}</legend>{controls}{help_}{why}</fieldset></form>"
    )


def _details(question: Question, reasons: str, before: str = "", tag: str = "ul") -> str:
    return (
        f'<details class="mb-a"><summary>Answer and reasons</summary>{before}'
        + (f'<{tag} class="mb-why">{reasons}</{tag}>' if reasons else "")
        + f'<p class="mb-e">{_prose(question, question.explanation)}</p></details>'
    )


def _choices(question: Question, kind: str, texts: Sequence[str]) -> str:
    return (
        '<div class="mb-c">'
        + "".join(
            f'<label class="mb-l"><input type="{kind}" name="a"><b>{_LETTERS[i]}</b>'
            f"<span>{_prose(question, text)}</span></label>"
            for i, text in enumerate(texts)
        )
        + "</div>"
    )


def _reason(question: Question, head: str, reason: str) -> str:
    return f"<li><b>{head}</b> {_prose(question, reason)}</li>"


def _question(question: Question, number: int) -> str:
    q = question
    if isinstance(q, Single | Several):
        kind = "radio" if isinstance(q, Single) else "checkbox"
        controls = _choices(q, kind, [option.text for option in q.options])
        if isinstance(q, Several):
            controls = f"<small>Tick all that are right.</small>{controls}"
        reasons = "".join(
            _reason(q, f"{_LETTERS[i]} is {'right' if o.right else 'wrong'}.", o.reason)
            for i, o in enumerate(q.options)
        )
        return _form(q, number, controls, _details(q, reasons))
    if isinstance(q, FindTheError):
        controls = _choices(q, "radio", [line.text for line in q.lines])
        reasons = "".join(
            _reason(q, f"Line {_LETTERS[i]} {'is wrong' if x.wrong else 'holds'}.", x.reason)
            for i, x in enumerate(q.lines)
        )
        return _form(q, number, controls, _details(q, reasons))
    if isinstance(q, Order):
        items = "".join(
            f'<li data-i="{i}"><span>{_prose(q, q.items[i].text)}</span></li>' for i in q.shown
        )
        ends = f"<small>From {_prose(q, q.first)} to {_prose(q, q.last)}.</small>"
        reasons = "".join(
            f"<li><b>{_prose(q, item.text)}.</b> {_prose(q, item.reason)}</li>" for item in q.items
        )
        return _form(
            q, number, f'{ends}<ol class="mb-o">{items}</ol>', _details(q, reasons, tag="ol")
        )
    if isinstance(q, Number):
        of = f"in {q.unit}; " if q.unit else ""
        note = html.escape(f"{of}accepted within {q.tolerance}")
        known = q.evaluated()
        reasons = "".join(
            _reason(
                q,
                html.escape(show_number(evaluate(e.value, known, unit=q.unit), q.unit, q.digits))
                + ":",
                e.reason,
            )
            for e in q.common_errors
        )
        before = f"<p><b>{_shown(q)}</b> (within {html.escape(q.tolerance)})</p>"
        return _form(q, number, _field("Your answer", note), _details(q, reasons, before))
    raise TypeError(f"{type(q).__name__} questions have no face yet")


def _field(label: str, note: str) -> str:
    return (
        f'<label class="mb-n">{label} <small>({note})</small>'
        '<input name="a" autocomplete="off" spellcheck="false" autocapitalize="off"></label>'
    )


def _guess(question: Predict, number: int) -> str:
    unit = f"a number alone is read in {question.unit}" if question.unit else "a plain number"
    return _form(question, number, _field("Your guess", html.escape(unit)), "")


def _data(question: Question) -> dict:
    """What the script has to know to judge an answer."""
    q = question
    if isinstance(q, Single):
        return {"k": "one", "a": [o.right for o in q.options].index(True)}
    if isinstance(q, FindTheError):
        return {"k": "one", "a": [line.wrong for line in q.lines].index(True)}
    if isinstance(q, Several):
        return {"k": "some", "a": [i for i, o in enumerate(q.options) if o.right]}
    if isinstance(q, Order):
        return {"k": "order"}
    relative, absolute = parse_tolerance(q.tolerance, q.unit)
    known = q.evaluated()
    errors = [float(evaluate(e.value, known, unit=q.unit)) for e in q.common_errors]
    answer = {"a": float(q.number()), "u": q.unit, "r": relative, "s": absolute, "e": errors}
    return {"k": "number", **answer}


def unit_table() -> str:
    """Every unit symbol for the browser: ``symbol,prefixes,base,size`` with ``|`` between.

    Prefixes: 1 for k to E, 2 for m to p, 4 for Ki to Pi, added up.
    """
    rows = []
    for symbol, spec in quantities._SYMBOLS.items():
        kinds = ("k" in spec.prefixes) + 2 * ("m" in spec.prefixes) + 4 * spec.binary
        base, size = ("", 0.01) if symbol == "%" else (spec.base, float(spec.size))
        row = [symbol, str(kinds or "")]
        if size != 1:
            row += [base, f"{size:g}"]
        elif base != symbol:
            row += [base]
        rows.append(",".join(row))
    return "|".join(rows)


@cache
def shared_css() -> str:
    """The style sheet, the same text every time."""
    return (_HERE / "style.css").read_text(encoding="utf-8").replace("\n", "")


@cache
def number_js() -> str:
    """The part of the script that reads and judges numbers; needs no browser."""
    units = json.dumps(unit_table())
    factors = json.dumps(answers.FACTORS, separators=(",", ":"))
    code = (_HERE / "answers.js").read_text(encoding="utf-8")
    words = json.dumps(answers.WORDS, separators=(",", ":"), ensure_ascii=False)
    noun = json.dumps(answers.NOUN)
    return f"const TABLE={units},FACTORS={factors},WORDS={words},NOUN={noun};\n{squeeze(code)}"


@cache
def shared_js() -> str:
    """The whole script, the same text every time."""
    return f"{number_js()}{squeeze((_HERE / 'engine.js').read_text(encoding='utf-8'))}".strip()


#: what must keep its spaces: strings, templates, and regular expressions after = ( or !
_KEPT = re.compile(
    r"""("(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`"""
    r"""|(?<=[=(!] )/(?:[^/\\\n]|\\.)+/|(?<=[=(!])/(?:[^/\\\n]|\\.)+/)"""
)


def squeeze(code: str) -> str:
    """Drop comments, indentation and the spaces around punctuation; names stay readable.

    Comments stand on their own line, or after at least two spaces.

    Examples
    --------
    >>> squeeze('  const a = b + +c;  // why\\n  f("x = y");')
    'const a=b+ +c;\\nf("x = y");'
    """
    code = re.sub(r"^\s*//.*\n", "", code, flags=re.M)
    code = re.sub(r"\s{2,}//[^\n]*", "", code)
    code = re.sub(r"\n\s*", "\n", code).strip()
    parts = _KEPT.split(code)
    parts[::2] = [
        re.sub(
            r",?\n([}\])])",
            r"\1",
            re.sub(r" ?(?<!\+ )([=*/<>!&|?:;,{}()\[\]+-]) ?(?![+-])", r"\1", part),
        )
        for part in parts[::2]
    ]
    return "".join(parts)
