"""Every glued value and every catalog fact on a page exists, and none is glued for nothing."""

from __future__ import annotations

import posixpath
import re
from difflib import get_close_matches

from gates.core import Book, Defect

_TARGET = re.compile(r"^(?P<doc>[^:\s]+\.ipynb)::(?P<key>[^:\s]+)(?::(?P<format>\S.*))?$")
_FORMAT = re.compile(r"^[,+]?(?:\d*)?(?:,)?(?:\.\d+)?[efgs%dn]?$")
HIDDEN = "application/papermill.record/"


def _resolve(page: str, target: str) -> str:
    """A path on a page, as a path of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def uses(book: Book) -> list[tuple[str, int, str, str, str | None]]:
    """(page, line, notebook, key, format) of everything that pages take from notebooks."""
    found = []
    for page in book.pages():
        for role in page.document.roles:
            match = _TARGET.match(role.content) if role.name == "glue:text" else None
            if match:
                found.append(
                    (
                        page.name,
                        role.line,
                        _resolve(page.name, match["doc"]),
                        match["key"],
                        match["format"],
                    )
                )
        for directive in page.document.directives:
            if directive.name == "glue" and "doc" in directive.options:
                doc = _resolve(page.name, str(directive.options["doc"]))
                found.append((page.name, directive.line, doc, directive.argument.strip(), None))
    return found


def check(book: Book) -> list[Defect]:
    """Report roles that are spelled otherwise, missing keys, and glued values nobody shows."""
    found = []
    for page in book.pages():
        for role in page.document.roles:
            if role.name.startswith("glue") and not (
                role.name == "glue:text" and _TARGET.match(role.content)
            ):
                found.append(
                    Defect(
                        page.name,
                        role.line,
                        f"{{{role.name}}}`{role.content}`: "
                        "write {glue:text}`path.ipynb::key:.1f`",
                    )
                )
        for directive in page.document.directives:
            if directive.name.startswith("glue") and (
                directive.name != "glue"
                or not str(directive.options.get("doc", "")).endswith(".ipynb")
            ):
                found.append(
                    Defect(
                        page.name,
                        directive.line,
                        f"directive {{{directive.name}}}: write {{glue}} with :doc: path.ipynb",
                    )
                )
    notebooks = {notebook.name: notebook for notebook in book.notebooks()}
    used: set[tuple[str, str]] = set()
    empty: set[tuple[str, str]] = set()
    for page, line, doc, key, form in uses(book):
        used.add((doc, key))
        if doc not in notebooks or not notebooks[doc].glued:
            what = "glues nothing" if doc in notebooks else "no such notebook"
            if (page, doc) not in empty:  # once is enough
                found.append(
                    Defect(page, line, f"{doc}: {what} (asked for {key!r} and maybe more)")
                )
            empty.add((page, doc))
        elif key not in notebooks[doc].glued:
            known = ", ".join(get_close_matches(key, notebooks[doc].glued)) or "nothing like it"
            found.append(Defect(page, line, f"{doc} glues no {key!r}; it glues {known}"))
        elif form is not None and not _FORMAT.match(form):
            found.append(Defect(page, line, f"{key}: {form!r} is not a number format"))
    for notebook in notebooks.values():
        counted: set[str] = set()
        for cell in notebook.cells:
            for output in cell.outputs:
                key = output.get("metadata", {}).get("scrapbook", {}).get("name")
                if not key:
                    continue
                if key in counted:
                    found.append(Defect(notebook.name, cell.number, f"{key!r} is glued twice"))
                counted.add(key)
                hidden = all(mime.startswith(HIDDEN) for mime in output["data"])
                if hidden and (notebook.name, key) not in used:
                    found.append(
                        Defect(notebook.name, cell.number, f"{key!r} is glued and no page shows it")
                    )
    return found


def check_facts(book: Book) -> list[Defect]:
    """Report catalog figures on a page that the catalog does not have."""
    from helpers.catalog import facts

    found = []
    for page in book.pages():
        for role in page.document.roles:
            if role.name == "fact":
                try:
                    facts.read(role.content)
                except (LookupError, ValueError) as error:
                    found.append(Defect(page.name, role.line, f"{{fact}}`{role.content}`: {error}"))
    return found


# ---- planted defects ---------------------------------------------------------------------------


def _first(book: Book) -> tuple[str, str, str]:
    return next((page, doc, key) for page, _, doc, key, _ in uses(book) if book.has(doc))


def a_key_that_is_not_there(book: Book) -> str:
    page, _, key = _first(book)
    return book.replace(page, f"::{key}", f"::{key}_planted")


def a_notebook_that_is_not_there(book: Book) -> str:
    page, doc, key = _first(book)
    stem = posixpath.basename(doc)
    return book.replace(page, f"{stem}::{key}", f"nothing-{stem}::{key}")


def another_spelling(book: Book) -> str:
    return book.append("index.md", "\n\nThere are {glue}`weights` of them.\n")


def a_value_that_nobody_shows(book: Book) -> str:
    def change(raw: dict) -> None:
        raw["cells"][-1] = {
            "cell_type": "code",
            "id": "planted",
            "metadata": {},
            "source": [],
            "execution_count": 99,
            "outputs": [
                {
                    "output_type": "display_data",
                    "data": {HIDDEN + "text/plain": "3"},
                    "metadata": {"scrapbook": {"name": "planted", "mime_prefix": HIDDEN}},
                }
            ],
        }

    return book.edit_notebook(_first(book)[1], change)


def a_fact_without_a_record(book: Book) -> str:
    return book.append("index.md", "\n\nIt does {fact}`h100-sxm.peak.fp3`.\n")


PLANTS = (
    a_key_that_is_not_there,
    a_notebook_that_is_not_there,
    another_spelling,
    a_value_that_nobody_shows,
)
FACT_PLANTS = (a_fact_without_a_record,)
