"""Every label, citation and term that the text uses exists, once; no record stands twice."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator

from gates.core import Book, Defect

CITING = {"cite", "cite:p", "cite:t", "cite:ps", "cite:ts", "cite:author", "cite:year"}
DATA = "src/helpers/catalog/data/"


def _bare(file: str) -> str:
    return file.partition(" (cell ")[0]


def check_links(book: Book) -> list[Defect]:
    """Report links to labels, pages and notebooks that do not exist, and labels given twice."""
    found = []
    labels: dict[str, str] = {}
    prose = book.prose()
    for file, _, document in prose:
        for label, line in document.labels:
            if label in labels:
                found.append(Defect(file, line, f"label {label!r} stands in {labels[label]} too"))
            labels[label] = file
    for file, _, document in prose:
        for link in document.links:
            href = link.href
            if href.startswith("#"):
                if href[1:] not in labels:
                    found.append(Defect(file, link.line, f"no label {href[1:]!r} in the book"))
            elif not re.match(r"[a-z][a-z0-9+.-]*:", href):
                target = href.partition("#")[0]
                path = posixpath.normpath(posixpath.join(posixpath.dirname(_bare(file)), target))
                if target and not book.has(path):
                    found.append(Defect(file, link.line, f"{href}: no such file"))
    return found


def check_citations(book: Book) -> list[Defect]:
    """Report citations of unknown sources and terms that the glossary does not define."""
    sources = {source["key"] for source in book.data("sources.yaml") or []}
    terms = {_term(term).lower() for term in _glossary(book)}
    found = []
    for file, _, document in book.prose():
        for role in document.roles:
            if role.name in CITING:
                for key in role.content.split(","):
                    if key.strip() not in sources:
                        found.append(Defect(file, role.line, f"no source {key.strip()!r}"))
            elif role.name == "term":
                match = re.search(r"<([^>]+)>$", role.content)
                term = match[1] if match else role.content
                if " ".join(term.split()).lower() not in terms:
                    found.append(Defect(file, role.line, f"the glossary lacks {term!r}"))
            elif role.name.startswith("cite"):
                found.append(
                    Defect(file, role.line, f"write {{cite:p}} or {{cite:t}}, not {role.name}")
                )
    return found


def _glossary(book: Book) -> list[dict]:
    return book.data("glossary.yaml") or []


def _term(entry: dict) -> str:
    return str(entry.get("term", entry.get("name", "")))


def _records(book: Book) -> Iterator[tuple[str, str, str]]:
    """(kind, id, file) of every record of the catalog."""
    for name in book.files(DATA.rstrip("/"), suffixes=(".yaml",)):
        short = name.removeprefix(DATA)
        data = book.data(short)
        if short == "sources.yaml":
            yield from (("source", source["key"], name) for source in data or [])
        elif short == "glossary.yaml":
            yield from (("term", _term(entry).lower(), name) for entry in data or [])
        elif short.startswith("questions/"):
            yield from (("question", q["id"], name) for q in data["questions"])
        elif short.startswith("claims/"):
            yield from (("claim", claim["id"], name) for claim in data)
        elif short.startswith(("chips/", "models/")):
            yield (short.split("/")[0], data["id"], name)


def check_records(book: Book) -> list[Defect]:
    """Report records that stand twice, and sources that claims name and nobody lists."""
    found = []
    counts = Counter((kind, key) for kind, key, _ in _records(book))
    for kind, key, file in _records(book):
        if counts[kind, key] > 1:
            found.append(Defect(file, _line(book, file, key), f"{kind} {key!r} stands twice"))
    sources = {source["key"] for source in book.data("sources.yaml") or []}
    for name in book.files(DATA + "claims", suffixes=(".yaml",)):
        for claim in book.data(name.removeprefix(DATA)):
            for key in claim.get("sources", []):
                if key not in sources:
                    line = _line(book, name, claim["id"])
                    found.append(Defect(name, line, f"{claim['id']}: no source {key!r}"))
    texts: dict[str, tuple[str, str]] = {}
    for name in book.files(DATA + "questions", suffixes=(".yaml",)):
        for question in book.data(name.removeprefix(DATA))["questions"]:
            text = " ".join(str(question["text"]).lower().split())
            if text in texts:
                line = _line(book, name, question["id"])
                found.append(
                    Defect(name, line, f"{question['id']} asks what {texts[text][1]} asks")
                )
            texts[text] = (name, question["id"])
    return found


def _line(book: Book, file: str, key: str) -> int:
    for number, line in enumerate(book.text(file).split("\n"), 1):
        if re.search(rf"\b(?:id|key|term):\s*[\"']?{re.escape(str(key))}", line, re.IGNORECASE):
            return number
    return 0


# ---- planted defects ---------------------------------------------------------------------------


def a_link_to_no_label(book: Book) -> str:
    return book.append("index.md", "\n\nSee [there](#planted-nowhere).\n")


def a_link_to_no_file(book: Book) -> str:
    return book.append("index.md", "\n\nSee [there](chapters/planted.md).\n")


def a_label_given_twice(book: Book) -> str:
    book.append("index.md", "\n\n(planted)=\n## One\n")
    return book.append("chapters/units.md", "\n\n(planted)=\n## Two\n")


def an_unknown_citation(book: Book) -> str:
    return book.append("index.md", "\n\nSo it is {cite:p}`nobody-1999`.\n")


def an_unknown_term(book: Book) -> str:
    return book.append("index.md", "\n\nThis is a {term}`planted word`.\n")


def a_question_id_used_twice(book: Book) -> str:
    name = DATA + "questions/roofline.yaml"
    text = book.text(name)
    first, second = re.findall(r"^  - id: (\S+)$", text, re.MULTILINE)[:2]
    return book.write(name, text.replace(f"id: {second}\n", f"id: {first}\n", 1))


def a_source_listed_twice(book: Book) -> str:
    name = DATA + "sources.yaml"
    first = re.search(r"^- key: (\S+)$", book.text(name), re.MULTILINE)[1]
    return book.append(name, f"\n- key: {first}\n  kind: paper\n  title: Planted\n")


def a_claim_without_its_source(book: Book) -> str:
    name = DATA + "claims/roofline.yaml"
    return book.append(
        name, "\n- id: planted-claim\n  chapter: roofline\n  sources: [nobody-1999]\n"
    )


def a_question_asked_twice(book: Book) -> str:
    name = DATA + "questions/roofline.yaml"
    first = book.data("questions/roofline.yaml")["questions"][0]["text"].replace("\n", " ")
    return book.append(
        name, f"\n  - id: planted-again\n    type: number\n    text: >-\n      {first}\n"
    )


LINK_PLANTS = (a_link_to_no_label, a_link_to_no_file, a_label_given_twice)
CITATION_PLANTS = (an_unknown_citation, an_unknown_term)
RECORD_PLANTS = (
    a_question_id_used_twice, a_source_listed_twice, a_claim_without_its_source,
    a_question_asked_twice,
)  # fmt: skip
