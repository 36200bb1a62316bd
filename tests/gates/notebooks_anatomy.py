"""Every lab predicts before it measures, checks itself and says what to change; every chapter's
notebooks hold between them all kinds of work that the book promises."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath

from gates.core import Book, Defect, Notebook

#: notebooks that only feed a page are no labs
FEEDER = "figures"
NO_LABS = {"solutions", "claims"}  # executed pages: worked solutions, claim checks
#: scored by a function and a rubric, in place of a quiz and a checker
DESIGN_LAB = "design-lab"
MEASURING_TAG = "nbval-ignore-output"
_MEASURES = re.compile(r"\brecorded_or_live\(|\b(?:kernel|paged_attention)_report\(")


def _outputs(notebook: Notebook) -> str:
    found = []
    for cell in notebook.cells:
        for output in cell.outputs:
            data = output.get("data", {})
            found += ["".join(data[mime]) for mime in data if mime.endswith("text/html")]
    return "\n".join(found)


def _code(notebook: Notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.kind == "code")


def _prose(notebook: Notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.kind == "markdown")


#: what a chapter's notebooks hold between them
PROMISED = {
    "a playground with ipywidgets": (r"\bplayground\(", "mb-playground"),
    "a torch demo on the CPU": (r"^\s*import torch\b", ""),
    "a kernel that uses a GPU if there is one": (r"\bhelpers\.kernels\b|\bkernels\.\w+\(", ""),
    "a quiz": (r"\bquiz\.show\(", "mb-quiz"),
}


def folders(book: Book) -> dict[str, list[Notebook]]:
    """Chapter -> its notebooks, without the front's."""
    found = defaultdict(list)
    for notebook in book.notebooks():
        chapter = PurePosixPath(notebook.name).parent.name
        if book.has(f"chapters/{chapter}.md"):
            found[chapter].append(notebook)
    return found


def is_lab(notebook: Notebook) -> bool:
    return PurePosixPath(notebook.name).stem not in {FEEDER, *NO_LABS}


def check(book: Book) -> list[Defect]:
    """Report what labs lack, one by one and as a chapter's set."""
    found = []
    for chapter, notebooks in folders(book).items():
        for what, (code, shown) in PROMISED.items():
            if not any(
                re.search(code, _code(notebook), re.M) and shown in _outputs(notebook)
                for notebook in notebooks
            ):
                message = f"no notebook of the chapter has {what}"
                found.append(Defect(f"notebooks/{chapter}", 0, message))
        for notebook in filter(is_lab, notebooks):
            found += [Defect(notebook.name, line, message) for line, message in _lab(notebook)]
    for notebook in book.notebooks():
        header = notebook.cells[0].source if notebook.cells else ""
        if not re.search(r"^# \S", header, re.MULTILINE):
            found.append(Defect(notebook.name, 1, "the header cell has no title (# ...)"))
    return found


def _lab(notebook: Notebook) -> list[tuple[int, str]]:
    found = []
    header = notebook.cells[0].source if notebook.cells else ""
    if not re.search(r"\d+ ?(?:s|seconds|min|minutes)\b|\bminutes?\b|\bseconds\b", header):
        found.append((1, "the header does not say how long the notebook runs"))
    start = "\n".join(cell.source for cell in notebook.cells[:3] if cell.kind == "markdown")
    if not re.search(r"\byou (?:can|will|learn|predict|measure|see)|\boutcomes?\b", start, re.I):
        found.append((1, "the start does not say what the reader will be able to do"))
    measuring = [
        cell.number
        for cell in notebook.cells
        if MEASURING_TAG in cell.tags and _MEASURES.search(cell.source)
    ]
    predicting = [c.number for c in notebook.cells if re.search(r"predict", c.source, re.I)]
    if measuring and not any(2 < number < measuring[0] for number in predicting):
        found.append((measuring[0], "measures before it has predicted"))
    for number in measuring:
        after = next((c for c in notebook.cells if c.number > number and c.kind == "code"), None)
        if after is None or "assert" not in after.source:
            found.append((number, "no cell after this measurement asserts what it must show"))
    if PurePosixPath(notebook.name).stem == DESIGN_LAB:
        if not re.search(r"\bscore\(", _code(notebook)):
            found.append((len(notebook.cells), "no function scores a design"))
        return found
    if "mb-quiz" not in _outputs(notebook):
        found.append((len(notebook.cells), "no quiz"))
    if not re.search(r"\bcheck\(", _code(notebook)):
        found.append((len(notebook.cells), "no exercise with a checker (exercise check(...))"))
    if not re.search(r"^#+ .*\bchange next\b", _prose(notebook), re.I | re.M):
        found.append((len(notebook.cells), 'no section "What to change next"'))
    return found


# ---- planted defects: in the first lab of the book ---------------------------------------------


def _first_lab(book: Book) -> str:
    return next(
        notebook.name
        for notebooks in folders(book).values()
        for notebook in notebooks
        if is_lab(notebook) and any(MEASURING_TAG in cell.tags for cell in notebook.cells)
    )


def a_measurement_without_a_prediction(book: Book) -> str:
    def change(raw: dict) -> None:
        for cell in raw["cells"]:
            cell["source"] = re.sub("predict", "state", "".join(cell["source"]), flags=re.I)

    return book.edit_notebook(_first_lab(book), change)


def a_measurement_that_nothing_asserts(book: Book) -> str:
    def change(raw: dict) -> None:
        for cell in raw["cells"]:
            cell["source"] = "".join(cell["source"]).replace("assert", "print")

    return book.edit_notebook(_first_lab(book), change)


def a_lab_without_an_end(book: Book) -> str:
    def change(raw: dict) -> None:
        for cell in raw["cells"]:
            cell["source"] = re.sub("change next", "do", "".join(cell["source"]), flags=re.I)

    return book.edit_notebook(_first_lab(book), change)


def a_lab_without_a_quiz(book: Book) -> str:
    def change(raw: dict) -> None:
        for cell in raw["cells"]:
            for output in cell.get("outputs", []):
                if "mb-quiz" in str(output):
                    output["data"] = {"text/plain": "a quiz"}

    return book.edit_notebook(_first_lab(book), change)


def a_chapter_without_torch(book: Book) -> str:
    chapter, notebooks = next(iter(folders(book).items()))
    for notebook in notebooks:

        def change(raw: dict) -> None:
            for cell in raw["cells"]:
                cell["source"] = "".join(cell["source"]).replace("import torch", "import math")

        book.edit_notebook(notebook.name, change)
    return f"notebooks/{chapter}"


PLANTS = (
    a_measurement_without_a_prediction, a_measurement_that_nothing_asserts, a_lab_without_an_end,
    a_lab_without_a_quiz, a_chapter_without_torch,
)  # fmt: skip
