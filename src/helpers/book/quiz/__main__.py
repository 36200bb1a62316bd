"""``python -m helpers.book.quiz``: check the question bank and print what it computes."""

from __future__ import annotations

import sys
from pathlib import Path

from .bank import FOLDER, Bank, Number, Predict, Question, QuestionError
from .values import given_names, show_number


def _line(question: Question) -> str:
    line = f"{question.chapter:12} {question.group:14} {question.id:36} {question.type:14}"
    if isinstance(question, Number | Predict):
        if given_names(question.values):
            return f"{line} depends on the reader's machine"
        line += f" {show_number(question.number(), question.unit, question.digits)}"
    return line


def main() -> int:
    """Check the files of the folder named on the command line, or the book's own."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    try:
        bank = Bank(folder)
    except QuestionError as error:
        print(error, file=sys.stderr)
        return 1
    if not len(bank):
        print(f"{folder}: holds no questions", file=sys.stderr)
        return 1
    for question in bank:
        print(_line(question))
    print(f"{len(bank)} questions, all in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
