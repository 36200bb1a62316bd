"""Only directives and roles that both Jupyter Book 1 and MyST know, so that a move stays cheap."""

from __future__ import annotations

from gates.core import Book, Defect
from gates.markdown import PROSE_DIRECTIVES

DIRECTIVES = (PROSE_DIRECTIVES - {"solution", "exercise", "error", "table"}) | {
    "table", "image", "math", "csv-table", "code", "code-block", "literalinclude", "glue",
    "bibliography", "mermaid", "include",
}  # fmt: skip
ROLES = {
    "glue:text", "fact", "term", "cite:p", "cite:t", "math", "kbd", "abbr", "sub", "sup", "ref",
    "numref", "eq", "doc", "download",
}  # fmt: skip
#: admonitions are written in lower case; these spellings of Sphinx are not known to both
OTHER_NAMES = {"eval-rst": "write it in Markdown", "math:numref": "use eq", "cite": "use cite:p"}


def check(book: Book) -> list[Defect]:
    """Report directives, roles and raw HTML that a move to another builder would lose."""
    found = []
    for file, _, document in book.prose():
        for directive in document.directives:
            if directive.name not in DIRECTIVES:
                why = OTHER_NAMES.get(directive.name, "not known to both Jupyter Book 1 and MyST")
                found.append(Defect(file, directive.line, f"directive {{{directive.name}}}: {why}"))
        for role in document.roles:
            if role.name not in ROLES:
                why = OTHER_NAMES.get(role.name, "not known to both Jupyter Book 1 and MyST")
                found.append(Defect(file, role.line, f"role {{{role.name}}}: {why}"))
        for html, line in document.html:
            if not html.lstrip().startswith("<!--"):
                found.append(
                    Defect(file, line, f"raw HTML: {html.strip()[:50]!r}; use a directive")
                )
    return found


def check_alt(book: Book) -> list[Defect]:
    """Report figures and images without a description."""
    return [
        Defect(file, image.line, f"{image.src}: no alt text; say what the figure shows")
        for file, _, document in book.prose()
        for image in document.images
        if len(image.alt.split()) < 2
    ]


# ---- planted defects ---------------------------------------------------------------------------


def restructured_text(book: Book) -> str:
    return book.append("index.md", "\n\n```{eval-rst}\n.. note:: hello\n```\n")


def an_unknown_role(book: Book) -> str:
    return book.append("index.md", "\n\nPress {guilabel}`Run`.\n")


def raw_html(book: Book) -> str:
    return book.append("index.md", "\n\n<div>boxed</div>\n")


def a_figure_without_alt(book: Book) -> str:
    return book.append("index.md", "\n\n```{figure} roof.svg\n\nA roof.\n```\n")


def an_image_without_alt(book: Book) -> str:
    return book.append("chapters/units.md", "\n\n![](roof.svg)\n")


PLANTS = (restructured_text, an_unknown_role, raw_html)
ALT_PLANTS = (a_figure_without_alt, an_image_without_alt)
