"""Stored notebooks are complete, hold nothing of one machine or one run, and hide nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import nbformat

from gates.core import Book, Cell, Defect, Notebook

BYTES_OF_A_NOTEBOOK = 1_000_000
BYTES_OF_AN_OUTPUT = 250_000
#: tags and comments that keep nbval from comparing a cell; each needs a stated reason
HIDING_TAGS = {"nbval-ignore-output", "nbval-skip", "nbval-raises-exception", "raises-exception"}
_HIDING_COMMENT = re.compile(r"#\s*(?:NBVAL_(?:IGNORE_OUTPUT|SKIP)|PYTEST_VALIDATE_IGNORE_OUTPUT)")
_OF_ONE_RUN = {
    re.compile(r"\b(?:at|object at) 0x[0-9a-f]{6,}"): "the address of an object",
    re.compile(r"/(?:tmp|var|private|usr|opt|home|root|Users)/[\w.-]+"): "a path of one machine",
    re.compile(r"[A-Z]:\\\\?Users"): "a path of one machine",
    re.compile(r"/site-packages/"): "a path of one machine",
    re.compile(r"\b(?:Deprecation|Future|User|Runtime)Warning\b"): "a warning",
    re.compile(r"\bapplication/vnd\.jupyter\.widget-view"): "a widget without its kernel",
}


def _texts(output: dict) -> Iterator[str]:
    """The text of an output; pictures are left out, and so are the scripts a component brings."""
    if "text" in output:
        yield "".join(output["text"])
    for mime, content in output.get("data", {}).items():
        if mime.startswith("image/") and not mime.endswith("svg+xml"):
            continue
        text = "".join(content) if isinstance(content, list | str) else json.dumps(content)
        yield re.sub(r"<script\b.*?</script>|<style\b.*?</style>", "", text, flags=re.DOTALL)


def check_outputs(book: Book) -> list[Defect]:
    """Report notebooks that are not stored as run from top to bottom in one go."""
    found = []
    for name in book.files("notebooks", suffixes=(".ipynb",)):
        try:
            nbformat.validate(nbformat.reads(book.text(name), as_version=4))
        except Exception as error:
            line = str(error).strip().splitlines()[0][:120]
            found.append(Defect(name, 0, f"not a notebook: {line}"))
    for notebook in book.notebooks():
        if len(notebook.text.encode()) > BYTES_OF_A_NOTEBOOK:
            found.append(
                Defect(
                    notebook.name,
                    0,
                    f"{len(notebook.text.encode()):,} bytes; at most {BYTES_OF_A_NOTEBOOK:,}",
                )
            )
        expected = 0
        for cell in notebook.cells:
            if cell.kind != "code" or not cell.source.strip():
                continue
            expected += 1
            count = cell.raw.get("execution_count")
            if count != expected:
                found.append(
                    Defect(
                        notebook.name,
                        cell.number,
                        f"execution count {count}, not {expected}; run it with tools/notebooks.py",
                    )
                )
            found += [Defect(notebook.name, cell.number, fault) for fault in _faults(cell)]
    return found


def _faults(cell: Cell) -> Iterator[str]:
    if cell.source.rstrip().endswith(";"):
        yield "ends with a semicolon, which hides the output that tests compare"
    for output in cell.outputs:
        if output["output_type"] == "error":
            yield f"stored an error: {output.get('ename')}: {output.get('evalue', '')[:80]}"
            continue
        if output["output_type"] == "stream" and output.get("name") == "stderr":
            yield f"wrote to stderr: {''.join(output['text']).strip()[:80]}"
        size = len(json.dumps(output, ensure_ascii=False).encode())
        if size > BYTES_OF_AN_OUTPUT:
            yield f"an output of {size:,} bytes; at most {BYTES_OF_AN_OUTPUT:,}"
        for mime in output.get("data", {}):
            if mime.startswith("application/vnd.jupyter.widget-view"):
                yield "stored a widget view, which is dead without its kernel"
        for text in _texts(output):
            for pattern, what in _OF_ONE_RUN.items():
                match = pattern.search(text)
                if match:
                    yield f"the output holds {what}: {match[0]!r}"


def check_reasons(book: Book) -> list[Defect]:
    """Report cells that are kept from comparison without a stated reason."""
    found = []
    for notebook in book.notebooks():
        for cell in notebook.cells:
            hidden = HIDING_TAGS & set(cell.tags)
            if hidden and len(str(cell.metadata.get("reason", "")).split()) < 3:
                found.append(
                    Defect(
                        notebook.name,
                        cell.number,
                        f'tag {", ".join(sorted(hidden))} without a "reason" '
                        "in the cell's metadata",
                    )
                )
            if _HIDING_COMMENT.search(cell.source):
                found.append(
                    Defect(notebook.name, cell.number, "use the tag and a reason, not a comment")
                )
            if "nbval-skip" in cell.tags:
                found.append(Defect(notebook.name, cell.number, "nbval-skip: a cell always runs"))
    return found


def check_generated(book: Book) -> list[Defect]:
    """Report header and set-up cells that are missing or not as the tool writes them."""
    import notebooks as tool

    found = []
    for notebook in book.notebooks():
        cells = notebook.cells
        if not (len(cells) > 1 and "header" in cells[0].tags and "setup" in cells[1].tags):
            found.append(
                Defect(notebook.name, 1, 'the first two cells carry the tags "header" and "setup"')
            )
            continue
        stored = nbformat.reads(notebook.text, as_version=4)
        stamped = nbformat.reads(notebook.text, as_version=4)
        tool.stamp(stamped, notebook.name)
        for number, (old, new) in enumerate(zip(stored.cells, stamped.cells, strict=True), 1):
            if old.source != new.source:
                found.append(
                    Defect(
                        notebook.name,
                        number,
                        "a generated cell was edited; `python tools/notebooks.py stamp` mends it",
                    )
                )
        normal = nbformat.reads(notebook.text, as_version=4)
        tool.normalise(normal)
        text = json.dumps(normal, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if text != json.dumps(notebook.raw, indent=1, ensure_ascii=False, sort_keys=True) + "\n":
            found.append(
                Defect(
                    notebook.name,
                    0,
                    "not stored by tools/notebooks.py: it holds what differs from run to run",
                )
            )
    return found


# ---- planted defects ---------------------------------------------------------------------------


def _notebook(book: Book) -> Notebook:
    """A notebook with a code cell beyond its set-up, to plant in."""
    return next(n for n in book.notebooks() if _code_cell(n.raw) is not None)


def _code_cell(raw: dict) -> dict | None:
    return next(
        (cell for cell in raw["cells"][2:] if cell["cell_type"] == "code" and cell["outputs"]), None
    )


def _planting(change: Callable[[dict], None]) -> Callable[[Book], str]:
    def edit(book: Book) -> str:
        return book.edit_notebook(_notebook(book).name, lambda raw: change(_code_cell(raw)))

    edit.__name__ = change.__name__
    return edit


@_planting
def a_cell_that_was_not_run(cell: dict) -> None:
    cell["execution_count"] = None
    cell["outputs"] = []


@_planting
def cells_run_out_of_order(cell: dict) -> None:
    cell["execution_count"] = 77


@_planting
def a_stored_error(cell: dict) -> None:
    cell["outputs"] = [
        {"output_type": "error", "ename": "ValueError", "evalue": "x", "traceback": []}
    ]


@_planting
def the_address_of_an_object(cell: dict) -> None:
    cell["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["<Chip object at 0x7f3a5c0011d0>\n"]}
    ]


@_planting
def a_path_of_one_machine(cell: dict) -> None:
    cell["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["saved in /ho" + "me/me/card.json\n"]}
    ]


@_planting
def a_warning(cell: dict) -> None:
    cell["outputs"] = [
        {"output_type": "stream", "name": "stderr", "text": ["UserWarning: slow path\n"]}
    ]


@_planting
def an_output_too_large(cell: dict) -> None:
    cell["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["x" * (BYTES_OF_AN_OUTPUT + 1)]}
    ]


@_planting
def a_dead_widget(cell: dict) -> None:
    cell["outputs"] = [
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {
                "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                "text/plain": "s",
            },
        }
    ]


@_planting
def an_ignored_output_without_a_reason(cell: dict) -> None:
    cell["metadata"] = {"tags": ["nbval-ignore-output"]}


@_planting
def a_comment_that_hides_an_output(cell: dict) -> None:
    cell["source"] = ["# NBVAL_IGNORE_OUTPUT\n", "print(1)"]


def an_edited_set_up_cell(book: Book) -> str:
    def change(raw: dict) -> None:
        raw["cells"][1]["source"] = ["%pip install torch\n", "import helpers"]

    return book.edit_notebook(_notebook(book).name, change)


def a_notebook_without_its_header(book: Book) -> str:
    def change(raw: dict) -> None:
        raw["cells"][0]["metadata"] = {}

    return book.edit_notebook(_notebook(book).name, change)


def a_run_time_in_the_metadata(book: Book) -> str:
    def change(raw: dict) -> None:
        raw["cells"][0]["metadata"]["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00"}

    return book.edit_notebook(_notebook(book).name, change)


def a_broken_file(book: Book) -> str:
    return book.write(_notebook(book).name, '{"cells": [')


OUTPUT_PLANTS = (
    a_cell_that_was_not_run, cells_run_out_of_order, a_stored_error, the_address_of_an_object,
    a_path_of_one_machine, a_warning, an_output_too_large, a_dead_widget, a_broken_file,
)  # fmt: skip
REASON_PLANTS = (an_ignored_output_without_a_reason, a_comment_that_hides_an_output)
GENERATED_PLANTS = (
    an_edited_set_up_cell, a_notebook_without_its_header, a_run_time_in_the_metadata,
)  # fmt: skip
