"""Check an exercise of a notebook: ``check("ridge-of-an-h100", 295)`` says right, or what is off.

The exercises are ``number`` questions of the bank, so their answers are computed like the book's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from helpers.book.quiz.answers import Reading, judge, plain, read_answer, said
from helpers.book.quiz.bank import Bank, Number, bank
from helpers.book.quiz.richtext import as_plain
from helpers.book.quiz.values import (
    UnknownName,
    evaluate,
    fill,
    given_names,
    lookup,
    parse_tolerance,
    show_number,
    unit_scale,
)
from helpers.catalog.quantities import QuantityError, parse_quantity


@dataclass(frozen=True, repr=False)
class Outcome:
    """What :func:`check` found; true if the value is right, and readable as it stands.

    Attributes
    ----------
    right : bool
        Whether the value is inside the tolerance.
    message : str
        What to tell the learner.
    """

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.message}"


def check(exercise: str, value: Any, *, source: Bank | None = None, **given: Any) -> Outcome:
    """Compare a learner's value with an exercise's computed answer.

    Parameters
    ----------
    exercise : str
        Id of the exercise.
    value : number, Quantity or str
        In SI base units (B/s, FLOP/s, s ...), or a string with its unit, such as ``"3.35 TB/s"``.
        ``None`` or ``...`` means that nothing has been filled in.
    source : Bank, optional
        Another bank than the book's own.
    **given
        What only the learner's machine knows, where the exercise asks for it.

    Returns
    -------
    Outcome

    Raises
    ------
    KeyError
        If there is no such exercise, or it knows no such ``given``; the nearest are named.
    TypeError
        If the value is not one number.
    ValueError
        If it cannot be read, or has another kind of unit; or if ``given`` lacks something or
        cannot be read.

    Examples
    --------
    >>> from helpers.book.quiz.bank import Number
    >>> class OneExercise:  # stands in for the bank
    ...     def question(self, id):
    ...         return Number(
    ...             type="number", id=id, chapter="roofline", group="exercises", outcome="read",
    ...             difficulty=1, text="How long do 67 GB take at 3.35 TB/s?", unit="ms",
    ...             answer="= 67e9 / 3.35e12", tolerance="1%", explanation="Bytes over bandwidth.")
    >>> check("reading-time", 0.02, source=OneExercise())
    ✓ Right: 20 ms, and 0.02 s is within 1% of it. Bytes over bandwidth.
    >>> check("reading-time", "160 ms", source=OneExercise())
    ✗ Not yet. Read as 0.16 s. Off by a factor of 8: bits or bytes?
    """
    if not isinstance(exercise, str):
        raise TypeError(f"exercise: {exercise!r} is not an id; write check('id-of-it', value)")
    question = (source or bank()).question(exercise)
    if not isinstance(question, Number):
        raise UnknownName(f"exercise: {exercise!r} is a {question.type} question, not a number")
    for name in given:
        lookup("given", name, question.values, why=f" to the exercise {exercise!r}")
    missing = [name for name in given_names(question.values) if name not in given]
    if missing:
        needs = ", ".join(f"{name}=... ({question.values[name].what})" for name in missing)
        raise ValueError(f"given: the exercise {exercise!r} also needs {needs}")
    if value is None or value is Ellipsis:
        return Outcome(False, "Nothing to check yet: put your number in.")
    machine = {name: _given(name, number) for name, number in given.items()}
    reading = _read(value, question.unit)
    known = question.evaluated(machine)
    answer = float(question.number(machine))
    relative, absolute = parse_tolerance(question.tolerance, question.unit)
    errors = [float(evaluate(e.value, known, unit=question.unit)) for e in question.common_errors]
    verdict = judge(reading, answer, question.unit, relative, absolute, errors)

    def words(text: str) -> str:
        return " ".join(as_plain(fill(text, known)).replace("\u00a0", " ").split())

    shown = show_number(answer, question.unit, question.digits).replace("\u00a0", " ")
    if verdict.state == "right":
        # a bare number may have been meant in the unit that the exercise shows
        read_as = verdict.message.removeprefix("Read as ").rstrip(".") or said(reading)
        return Outcome(
            True,
            f"Right: {shown}, and {read_as} is within {question.tolerance} of it. "
            f"{words(question.explanation)}",
        )
    if verdict.error is not None:
        message = words(question.common_errors[verdict.error].reason)
    else:
        message = verdict.message
    if verdict.state == "retry":
        meant = f"{plain(reading.value)} {question.unit}"
        return Outcome(
            False,
            f"Not counted: read as {said(reading)}. If you mean {meant}, pass '{meant}' or "
            f"{plain(reading.value * unit_scale(question.unit)[1])}.",
        )
    hint = f" Hint: {words(question.hint)}" if question.hint else ""
    return Outcome(False, f"Not yet. Read as {said(reading)}. {message}{hint}")


def _number(name: str, value: Any) -> Any:
    """One finite number, or a string to be parsed; numpy and torch scalars become plain."""
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name}: {value!r} is not one number; pass a number in base units or a string such "
            "as '3.35 TB/s'"
        )
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value!r} is not a finite number")
    return value


def _given(name: str, value: Any) -> Any:
    """A number of the learner's machine, with or without a unit."""
    try:
        return parse_quantity(_number(name, value))
    except QuantityError as error:
        raise ValueError(f"{name}: {_bare(error)}") from None


def _bare(error: ValueError) -> str:
    """What an error says, without the name of the argument it speaks of."""
    message = str(error)
    if message.startswith("unit: "):
        return f"the unit {message.removeprefix('unit: ')}"
    return message.removeprefix("value: ")


def _read(value: Any, unit: str) -> Reading:
    value = _number("value", value)
    base, _ = unit_scale(unit)
    if isinstance(value, str):
        try:
            return read_answer(value, unit)
        except ValueError as error:
            raise ValueError(f"value: {_bare(error)}") from None
    have = getattr(value, "unit", "")
    if have and unit_scale(have)[0] != base:
        raise ValueError(f"value: it is in {have}; the answer is in {unit or 'no unit'}")
    return Reading(float(value), base, bare=not have)
