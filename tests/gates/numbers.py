"""No number with a unit is typed by hand: promise 1 of the book.

A number comes from a stored notebook output (``{glue:text}``) or from the catalog (``{fact}``).
"""

from __future__ import annotations

import re

from gates.core import Book, Defect
from gates.markdown import GAP, Text

#: a page that defines units may type them
PAGES_OF_DEFINITIONS = {"chapters/units.md"}
#: blocks whose givens are typed: the reader is handed these numbers, they claim nothing
CLASSES_OF_GIVENS = {"exercise", "worked"}
#: a header strip stands in the first blocks after the title and may type durations
BLOCKS_OF_HEADER_STRIP = 2
HEADER_STRIPS = {"header", "header-strip"}
#: a notebook's header cell is its strip
HEADER_CELL = " (cell 1)"

#: what looks like a number with a unit and is a name
NAMES: dict[str, str] = {
    r"\b\d{1,2}[-\s]bits?\b(?!/)": "width of a number format: a 16-bit float",
    r"\b(?:0\.5|1|1\.5|3|7|8|13|14|32|34|70|72|405|540|671)B\b(?!/)": "size class of models",
    r"\b(?:7|8|70|405)[- ]billion[- ]parameters?\b": "size class in words",
    r"\b8x(?:7|22)B\b": "size class in the name of a mixture of experts",
    r"\b[AH]100[- ](?:(?:SXM|PCIe|NVL)[- ])?(?:40|80|94)\s?GB\b": "product name",
    r"\b1 million tokens\b": "the quantity by which tokens are priced",
}

_NUMBER = r"(?<![\w.,^/])(?:\d+(?:[,\u202f\u00a0]\d{3})*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?"
_POWER = r"(?:\s*[×x·]\s*10\s*\^?\s*[-−]?\d+\^?)?"
_SCALE = r"(?:\s*(?:thousand|million|billion|trillion|quadrillion))?"
_SYMBOLS = "|".join(
    [
        r"[kKMGTPE]i?B(?:/s)?",
        r"B(?:/s)?",
        r"[KMGTPE]?i?bits?(?:/s)?",
        r"[kMGT]bps",
        r"[kMGTPEZ]?FLOPS?(?:/s|/B)?",
        r"[kMGTPEZ]?FLOPs",
        r"[GTP]?OPS?(?:/s|/B)?",
        r"G?T/s",
        r"[kKMGT]?Wh?",
        r"[kMmµμn]?J",
        r"[mµμunp]s",
        r"[kMGT]?Hz",
        r"%",
        r"USD",
        r"EUR",
        r"nm",
        r"mm2|mm²",
        r"tok(?:en)?s?/s",
        r"tokens per second",
        r"°C",
    ]
)
_WORDS = "|".join(
    [
        r"(?:kilo|mega|giga|tera|peta|exa|kibi|mebi|gibi|tebi)?(?:bytes?|bits?|watts?|joules?|hertz)",
        r"(?:mega|giga|tera|peta|exa|zetta)?flops?",
        r"(?:milli|micro|nano|pico)?seconds?",
        r"minutes?",
        r"hours?",
        r"days?",
        r"weeks?",
        r"dollars?",
        r"cents?",
        r"percent",
        r"per cent",
    ]
)
_DURATIONS = r"(?:s|min|h|seconds?|minutes?|hours?)"
_END = r"(?![\w/²])"

TYPED = re.compile(
    f"{_NUMBER}{_POWER}{_SCALE}(?:[\\s\u00a0\u202f-]*(?:{_SYMBOLS}|(?i:{_WORDS})){_END}"
    f"|[\\s\u00a0\u202f]+[sh]{_END})"
    f"|[$€£]\\s?\\d[\\d,.]*"
    f"|{_NUMBER}\\s*(?:thousand|million|billion|trillion)\\s+(?:parameters|weights|tokens)\\b"
)
_NAMES = re.compile("|".join(NAMES))
_DURATION = re.compile(f"{_NUMBER}(?:\\s*(?:to|–|-)\\s*\\d+)?[\\s\u00a0]*{_DURATIONS}{_END}")
_UNIT_IN_HEAD = re.compile(rf"(?:^|[\s(,])(?:{_SYMBOLS}){_END}")
_BARE = re.compile(rf"^{_NUMBER}{_POWER}$")


def typed_numbers(text: str) -> list[str]:
    """The numbers with a unit in a run of prose; names are not numbers.

    >>> typed_numbers("An H100 moves 3.35 TB/s, that is 80 GB in 24 ms.")
    ['3.35 TB/s', '80 GB', '24 ms']
    >>> typed_numbers("A 70B model in 16-bit floats, in the 1990s, with 32 layers")
    []
    """
    names = [match.span() for match in _NAMES.finditer(text)]
    return [
        match[0].strip()
        for match in TYPED.finditer(text)
        if not any(start <= match.start() and match.end() <= end for start, end in names)
    ]


def _is_exempt(file: str, text: Text, number: str) -> bool:
    if text.inside.classes & CLASSES_OF_GIVENS or set(text.inside.directives) & CLASSES_OF_GIVENS:
        return True
    in_strip = (
        0 <= text.after_title <= BLOCKS_OF_HEADER_STRIP
        or text.inside.classes & HEADER_STRIPS
        or file.endswith(HEADER_CELL)
    )
    return bool(in_strip and _DURATION.fullmatch(number))


def check(book: Book) -> list[Defect]:
    """Report every typed number with a unit in pages and in notebooks' Markdown cells."""
    found = []
    for file, _, document in book.prose():
        if file in PAGES_OF_DEFINITIONS:
            continue
        for text in document.texts:
            for number in typed_numbers(text.text):
                if not _is_exempt(file, text, number):
                    line = text.line + text.text[: text.text.find(number)].count("\n")
                    context = " ".join(text.text.replace(GAP, "…").split())
                    found.append(
                        Defect(
                            file,
                            line,
                            f'{number!r} is typed by hand in "{_around(context, number)}"; take it '
                            "from the catalog with {fact} or from a notebook with {glue:text}",
                        )
                    )
        for table in document.tables:
            if table.inside.classes & CLASSES_OF_GIVENS or not table.rows:
                continue
            for column, head in enumerate(table.rows[0]):
                if not _UNIT_IN_HEAD.search(head):
                    continue
                for row in table.rows[1:]:
                    if column < len(row) and _BARE.match(row[column]):
                        found.append(
                            Defect(
                                file,
                                table.line,
                                f"{row[column]!r} is typed by hand under the head {head!r}; "
                                "glue the table from a notebook",
                            )
                        )
    return found


def _around(context: str, number: str, width: int = 40) -> str:
    number = " ".join(number.split())
    at = max(context.find(number), 0)
    return context[max(0, at - width) : at + len(number) + width].strip()


# ---- planted defects ---------------------------------------------------------------------------


def in_a_paragraph(book: Book) -> str:
    return book.append("chapters/two-workloads.md", "\n\nThe chip reads 3.35 TB/s from memory.\n")


def in_an_admonition_in_a_list(book: Book) -> str:
    return book.append(
        "chapters/two-workloads.md",
        "\n\n:::{note}\n- one\n\n  ```{tip}\n  It holds about 80-GB stacks.\n  ```\n:::\n",
    )


def in_a_table(book: Book) -> str:
    return book.append(
        "chapters/two-workloads.md", "\n\n| Chip | Memory (GB) |\n|---|---|\n| one | 141 |\n"
    )


def in_a_caption(book: Book) -> str:
    return book.append(
        "chapters/two-workloads.md",
        "\n\n```{figure} x.svg\n:alt: a plot\n\nTime falls to 12 ms.\n```\n",
    )


def in_a_notebook(book: Book) -> str:
    name = book.notebooks()[0].name

    def change(raw: dict) -> None:
        raw["cells"].append(
            {
                "cell_type": "markdown",
                "id": "planted",
                "metadata": {},
                "source": ["It took 4.5 seconds and 12 GB."],
            }
        )

    return book.edit_notebook(name, change)


def in_dollars(book: Book) -> str:
    return book.append("index.md", "\n\nAn hour costs \\$2 today.\n")


def a_duration_far_from_the_header(book: Book) -> str:
    return book.append("chapters/how-to-use.md", "\n\nThe run takes 40 minutes.\n")


PLANTS = (
    in_a_paragraph,
    in_an_admonition_in_a_list,
    in_a_table,
    in_a_caption,
    in_a_notebook,
    in_dollars,
    a_duration_far_from_the_header,
)
