"""The question bank: every question of the book as a checked record.

A question is an entry of ``helpers/catalog/data/questions/<chapter>.yaml``. The format is written
down, with an example of each type, in ``sample-format.md`` beside those files. Loading checks all
of it, so a question without a reason for each option, or with two right answers to a single
choice, never reaches a page.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

import helpers.catalog

from . import values as _values
from .richtext import paragraphs
from .values import evaluate, fill, parse_spec

#: where the book's questions are
FOLDER = Path(helpers.catalog.__file__).parent / "data" / "questions"


class QuestionError(ValueError):
    """A question file breaks the format; the message names file, question, field and value."""


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Spec = Annotated[Any, AfterValidator(parse_spec)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Option(_Record):
    """One choice: its text, whether it is right, and why."""

    text: Text
    right: bool = False
    reason: Text


class Line(_Record):
    """One line of a calculation; exactly one of them is wrong."""

    text: Text
    wrong: bool = False
    reason: Text


class Item(_Record):
    """One thing to be put in order, and why it stands where it stands."""

    text: Text
    reason: Text


class CommonError(_Record):
    """A wrong number that we recognise, and what the reader did to get it."""

    value: Spec
    reason: Text


class Question(_Record):
    """What every question has."""

    type: str
    id: Slug
    chapter: Slug
    group: Slug
    outcome: Slug
    difficulty: Literal[1, 2, 3]
    text: Text
    explanation: Text
    values: dict[str, Spec] = {}

    #: the fields of this type that hold prose with ``{{value}}`` insertions
    _prose: ClassVar[tuple[str, ...]] = ()

    def evaluated(self, given: Mapping[str, float] | None = None) -> dict[str, float]:
        """The numbers of ``values``, computed.

        Parameters
        ----------
        given : mapping, optional
            Numbers that replace those of the same name, such as the reader's own machine.

        Raises
        ------
        ValueError
            If ``given`` names a value that the question does not have, or lacks one it needs.
        """
        return _values.evaluate_all(self.values, given or {})

    def prose(self, text: str) -> str:
        """``text`` with each ``{{value in unit :format}}`` replaced by its number."""
        return fill(text, self.evaluated())


class Single(Question):
    """Multiple choice: one option is right."""

    type: Literal["single"]
    options: tuple[Option, ...]

    @field_validator("options")
    @classmethod
    def _one_right(cls, options: tuple[Option, ...]) -> tuple[Option, ...]:
        _distinct([option.text for option in options], at_least=3)
        right = sum(option.right for option in options)
        if right != 1:
            raise ValueError(f"{right} options are right; a single choice has exactly one")
        return options


class Several(Question):
    """Several choices: tick all that are right."""

    type: Literal["several"]
    options: tuple[Option, ...]

    @field_validator("options")
    @classmethod
    def _some_right(cls, options: tuple[Option, ...]) -> tuple[Option, ...]:
        _distinct([option.text for option in options], at_least=3)
        right = sum(option.right for option in options)
        if right in (0, len(options)):
            raise ValueError(
                f"{right} of {len(options)} options are right; at least one must be right and "
                "at least one wrong"
            )
        return options


class FindTheError(Question):
    """A calculation with one wrong line."""

    type: Literal["find-the-error"]
    lines: tuple[Line, ...]

    @field_validator("lines")
    @classmethod
    def _one_wrong(cls, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        _distinct([line.text for line in lines], at_least=3)
        wrong = sum(line.wrong for line in lines)
        if wrong != 1:
            raise ValueError(f"{wrong} lines are marked wrong: true; exactly one must be")
        return lines


class Order(Question):
    """Things to be put in order; the file lists them in the right one."""

    type: Literal["order"]
    items: tuple[Item, ...]
    first: Text
    last: Text

    @field_validator("items")
    @classmethod
    def _enough(cls, items: tuple[Item, ...]) -> tuple[Item, ...]:
        _distinct([item.text for item in items], at_least=3)
        return items

    @property
    def shown(self) -> tuple[int, ...]:
        """The order in which the items are first shown: shuffled by the id, never the right one."""
        positions = list(range(len(self.items)))
        shuffle = random.Random(self.id).shuffle
        while positions == sorted(positions):
            shuffle(positions)
        return tuple(positions)


class _Numeric(Question):
    answer: Spec
    unit: str
    digits: int = 3
    check_value: Spec | None = None

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, unit: str) -> str:
        _values.unit_scale(unit)
        return unit

    @field_validator("digits")
    @classmethod
    def _few_digits(cls, digits: int) -> int:
        if not 1 <= digits <= 9:
            raise ValueError(f"{digits} is not between 1 and 9 significant digits")
        return digits

    def number(self, given: Mapping[str, float] | None = None) -> float:
        """The answer in SI base units (B, B/s, FLOP/s, s, W), computed."""
        return evaluate(self.answer, self.evaluated(given), unit=self.unit)


class Number(_Numeric):
    """A number with a unit and a tolerance."""

    type: Literal["number"]
    tolerance: Text
    hint: Text | None = None
    common_errors: tuple[CommonError, ...] = ()

    @model_validator(mode="after")
    def _tolerance_fits(self) -> Number:
        _values.parse_tolerance(self.tolerance, self.unit)
        return self

    def allowed(self, given: Mapping[str, float] | None = None) -> float:
        """The tolerance as an absolute number in SI base units."""
        relative, absolute = _values.parse_tolerance(self.tolerance, self.unit)
        return absolute + relative * abs(self.number(given))


class Predict(_Numeric):
    """A guess before reading on: kept, never blocking, compared at the chapter's end."""

    type: Literal["predict"]
    group: Slug = "predict"


TYPES: dict[str, type[Question]] = {
    "single": Single,
    "several": Several,
    "number": Number,
    "order": Order,
    "find-the-error": FindTheError,
    "predict": Predict,
}


def _distinct(texts: list[str], at_least: int) -> None:
    if len(texts) < at_least:
        raise ValueError(f"{len(texts)} given; at least {at_least} are needed")
    for text in texts:
        if texts.count(text) > 1:
            raise ValueError(f"{text!r} stands twice")


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a repeated key is an error, not the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class Bank:
    """All questions of one folder.

    Parameters
    ----------
    folder : Path
        Holds the ``*.yaml`` files.

    Raises
    ------
    QuestionError
        If any file breaks the format.
    """

    def __init__(self, folder: Path = FOLDER):
        self._by_id: dict[str, Question] = {}
        where: dict[str, str] = {}
        if not folder.is_dir():
            raise QuestionError(f"folder: {str(folder)!r} is not a folder with question files")
        for path in sorted(folder.glob("*.yaml")):
            for question in _read(path):
                if question.id in where:
                    raise QuestionError(
                        f"{path.name}: question {question.id!r}, field id: {question.id!r} is "
                        f"already used in {where[question.id]}; every id must be unique in the bank"
                    )
                where[question.id] = path.name
                self._by_id[question.id] = question

    def __iter__(self):
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def question(self, id: str) -> Question:
        """One question by its id.

        Raises
        ------
        KeyError
            If there is none; the message suggests the nearest ids.
        """
        return _values.lookup("question", id, self._by_id)

    def chapter(self, chapter: str) -> tuple[Question, ...]:
        """The questions of one chapter, in the order of the file."""
        chapters = {question.chapter: None for question in self}
        _values.lookup("chapter", chapter, chapters)
        return tuple(question for question in self if question.chapter == chapter)

    def group(self, chapter: str, group: str) -> tuple[Question, ...]:
        """The questions of one group of a chapter, without the predictions."""
        questions = [q for q in self.chapter(chapter) if not isinstance(q, Predict)]
        groups = {question.group: None for question in questions}
        _values.lookup(f"group of chapter {chapter!r}", group, groups)
        return tuple(question for question in questions if question.group == group)

    def predictions(self, chapter: str) -> tuple[Predict, ...]:
        """The guesses that a chapter asks for at its beginning."""
        return tuple(q for q in self.chapter(chapter) if isinstance(q, Predict))


def _read(path: Path) -> list[Question]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None)
        raise QuestionError(
            f"{path.name}{line}: not valid YAML: {problem or error}; mend the line (indent with"
            " spaces, quote texts that hold ': ' or '#')"
        ) from None
    except (OSError, TypeError, ValueError) as error:  # no file, no UTF-8, no such date or key
        raise QuestionError(f"{path.name}: cannot be read: {error}; mend the file") from None
    if not isinstance(raw, dict) or set(raw) != {"chapter", "questions"}:
        found = sorted(map(str, raw)) if isinstance(raw, dict) else type(raw).__name__
        raise QuestionError(
            f"{path.name}: the file has {found}; it must have the two keys 'chapter' and "
            "'questions'"
        )
    if not isinstance(raw["questions"], list):
        raise QuestionError(f"{path.name}: field questions: must be a list")
    return [_parse(path.name, raw["chapter"], i, q) for i, q in enumerate(raw["questions"])]


def _parse(file: str, chapter: Any, index: int, raw: Any) -> Question:
    if not isinstance(raw, dict):
        raise QuestionError(f"{file}: question number {index + 1}: {raw!r} is not a mapping")
    name = f"{file}: question {raw.get('id', f'number {index + 1}')!r}"
    kind = raw.get("type")
    if kind not in TYPES:
        raise QuestionError(f"{name}, field type: {kind!r} is not one of {', '.join(TYPES)}")
    try:
        question = TYPES[kind].model_validate({**raw, "chapter": chapter})
    except ValidationError as error:
        raise QuestionError(
            "\n".join(_problem(name, TYPES[kind], e) for e in error.errors())
        ) from None
    _check_computes(name, question)
    return question


def _problem(name: str, model: type[Question], error: Mapping[str, Any]) -> str:
    field = ".".join(map(str, error["loc"])) or "(the whole question)"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(f for f in model.model_fields if f != "chapter")
        message = (
            f"not a field here; a {model.model_fields['type'].annotation} question has {allowed}"
        )
    if error["type"] == "missing":
        return f"{name}, field {field}: is missing"
    value = error["input"]
    shown = f"{value!r}: " if isinstance(value, str | int | float | bool) else ""
    return f"{name}, field {field}: {shown}{message}"


def _check_computes(name: str, question: Question) -> None:
    """Compute every number that the question shows, so that an error surfaces on loading."""
    open_values = _values.given_names(question.values)
    if open_values:  # depends on the reader's machine; computed when an exercise is checked
        return
    field = "values"
    try:
        known = question.evaluated()
        for field, text in _texts(question):  # noqa: B007 (named in the error below)
            paragraphs(fill(text, known))
        if isinstance(question, _Numeric):
            field = "answer"
            answer = question.number()
            if not answer > 0 and isinstance(question, Predict):
                raise ValueError(f"{answer} is not positive, so no power of two leads to it")
            if question.check_value is not None:
                field = "check_value"
                typed = evaluate(question.check_value, known, unit=question.unit)
                if abs(typed - answer) > 0.005 * abs(answer):
                    raise ValueError(f"{typed:.6g} typed, but the answer computes to {answer:.6g}")
        if isinstance(question, Number):
            for i, wrong in enumerate(question.common_errors):
                field = f"common_errors.{i}.value"
                value = evaluate(wrong.value, known, unit=question.unit)
                if abs(value - answer) <= question.allowed():
                    raise ValueError(f"{value:.6g} lies inside the tolerance around {answer:.6g}")
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        message = error.args[0] if error.args else error
        raise QuestionError(f"{name}, field {field}: {message}") from error


def _texts(question: Question) -> list[tuple[str, str]]:
    """Every piece of prose of a question, with the name of its field."""
    found = [("text", question.text), ("explanation", question.explanation)]
    for field in ("options", "lines", "items", "common_errors"):
        for i, entry in enumerate(getattr(question, field, ())):
            if hasattr(entry, "text"):
                found.append((f"{field}.{i}.text", entry.text))
            found.append((f"{field}.{i}.reason", entry.reason))
    if getattr(question, "hint", None):
        found.append(("hint", question.hint))
    return found


@lru_cache(maxsize=1)
def bank() -> Bank:
    """The book's own questions, loaded and checked once."""
    return Bank()
