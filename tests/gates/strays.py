"""Nothing of the place where the book was written, and no address but where it is generated."""

from __future__ import annotations

import re

import address
from gates.core import Book, Defect

SUFFIXES = (
    ".md", ".py", ".yaml", ".yml", ".toml", ".txt", ".ipynb", ".js", ".css", ".html", ".bib",
    ".json", "Makefile", "LICENSE", "run",
)  # fmt: skip

# written in pieces, so that this file is no stray itself
_FORBIDDEN: dict[str, str] = {
    "/wo" r"rk/": "a folder of one machine",
    "/ro" r"ot/": "a folder of one machine",
    r"/ho" r"me/[a-z]\w*/": "a folder of one machine",
    r"/Us" r"ers/[A-Za-z]\w*/": "a folder of one machine",
    r"\b[A-Z]:\\" r"\\?Us" r"ers": "a folder of one machine",
    r"\.\./sha" r"red\b": "a folder outside of the repository",
    r"\bsub" r"-?agents?\b": "a word of the workplace",
    r"\bhelper ses" r"sions?\b": "a word of the workplace",
    r"\bpypi\.o" r"rg\b": "the host of a package registry",
    r"\bpythonho" r"sted\.org\b": "the host of a package registry",
    r"\bdownload\.pyto" r"rch\.org\b": "the host of a package registry",
    r"\bregistry\.npm" r"js\.org\b": "the host of a package registry",
    r"\banaco" r"nda\.org\b": "the host of a package registry",
    r"--(?:extra-)?index-url[ =]https?:": "the host of a package registry",
}
FORBIDDEN = {re.compile(pattern): what for pattern, what in _FORBIDDEN.items()}

#: where the public address may stand: the setting, and what is generated from it
ADDRESSED = {"_config.yml", *address.FILES}


def _texts(book: Book):
    for name in book.files():
        if name.endswith(SUFFIXES) or "/" not in name:
            try:
                yield name, book.text(name)
            except UnicodeDecodeError:
                continue


def check(book: Book) -> list[Defect]:
    """Report machine folders, workplace words and registry hosts in any file of the book."""
    found = []
    for name, text in _texts(book):
        for pattern, what in FORBIDDEN.items():
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(Defect(name, line, f"{match[0]!r} is {what}"))
    return found


def check_address(book: Book) -> list[Defect]:
    """Report the book's public address where no tool would change it."""
    setting = re.search(r"^repository:\n\s+url:\s*(\S+)", book.text("_config.yml"), re.MULTILINE)
    if not setting:
        return [Defect("_config.yml", 0, "no `repository:` with a `url:` on its next line")]
    found = []
    for name, text in _texts(book):
        if name in ADDRESSED or name.endswith(".ipynb"):
            continue
        for form in address._forms(setting[1]):
            for match in re.finditer(re.escape(form), text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(
                    Defect(
                        name,
                        line,
                        f"{form!r}: the address stands in _config.yml; take it from there",
                    )
                )
    for notebook in book.notebooks():
        for cell in notebook.cells:
            if {"header", "setup"} & set(cell.tags):
                continue
            if any(form in str(cell.raw) for form in address._forms(setting[1])):
                found.append(
                    Defect(
                        notebook.name,
                        cell.number,
                        "the public address stands outside of the generated cells",
                    )
                )
    return found


# ---- planted defects ---------------------------------------------------------------------------


def a_machine_folder(book: Book) -> str:
    return book.append("src/helpers/__init__.py", '\nPLACE = "/wo" + "rk/"\n'.replace('" + "', ""))


def a_folder_outside(book: Book) -> str:
    return book.append("chapters/units.md", "\n\nSee `.." + "/sha" + "red/notes.md`.\n")


def a_registry_host(book: Book) -> str:
    return book.append("requirements-book.txt", "\n--index" + "-url https://py" + "pi.org/simple\n")


def the_address_on_a_page(book: Book) -> str:
    return book.append("chapters/units.md", f"\n\n[code]({address.repository_address()})\n")


def the_address_in_a_notebook(book: Book) -> str:
    def change(raw: dict) -> None:
        raw["cells"].append(
            {
                "cell_type": "markdown",
                "id": "planted",
                "metadata": {},
                "source": [address.repository_address()],
            }
        )

    return book.edit_notebook(book.notebooks()[0].name, change)


PLANTS = (a_machine_folder, a_folder_outside, a_registry_host)
ADDRESS_PLANTS = (the_address_on_a_page, the_address_in_a_notebook)
