"""The outline that all chapters share, as data: what a chapter must have, and how much of it.

A chapter is a page ``chapters/<id>.md``; its sections carry the labels ``<id>-<suffix>`` below.
"""

from __future__ import annotations

from dataclasses import dataclass

#: pages among the chapters in the table of contents that are no chapters themselves
NO_CHAPTERS = {"chapters/to-come.md"}

#: what the header strip must say, in bold
HEADER_STRIP_CLASS = "header-strip"
HEADER_STRIP = ("Time", "Read first", "Runs on", "Numbers last checked")

WORDS = (4_000, 6_000)
OUTCOMES = (4, 6)
EXERCISES = (8, 12)
GUESSES = 3
QUESTIONS = 20  # in the bank, guesses and exercises not counted
QUESTIONS_IN_A_GROUP = (3, 5)
CLAIMS = 6
EXPLORABLES = 3
WORKED_PROBLEMS = 3
TAKEAWAYS = (4, 10)
READING = (4, 12)


@dataclass(frozen=True)
class Section:
    """A section that every chapter has; ``holds`` names what its text must contain."""

    suffix: str
    what: str
    holds: str = ""


#: in the order in which they stand
SECTIONS: tuple[Section, ...] = (
    Section("outcomes", "what the reader will be able to do", "outcomes"),
    Section("predict", "three guesses before reading on", "guesses"),
    Section("worked", "worked problems, with less and less of the solution", "worked problems"),
    Section("build", "build it: from scratch in a notebook", "link to a notebook"),
    Section("measure-here", "measure it: predicted against measured", "glued output"),
    Section("return", "the guesses return", "glued output"),
    Section("claims", "claims of the field, tested in the open", "glued output"),
    Section("design-lab", "a design lab with a budget, a target and a rubric", "rubric"),
    Section("exercises", "exercises, starred, with solutions on a page of their own", "exercises"),
    Section("takeaways", "what to take away, each with where it is shown", "takeaways"),
    Section("not-modelled", "what is not modelled, and how wrong that makes us"),
    Section("reading", "annotated reading", "reading"),
    Section("sources", "sources with dates"),
)

#: boxes that stand where the model is explained: a directive with this name or class
NOTATION = "notation"  # label <id>-notation
UNITS_BOX_CLASS = "units-box"
#: a section of questions has the label <id>-q-<group of the bank>
QUESTIONS_SUFFIX = "q-"
TRY_THIS = "Try this"
