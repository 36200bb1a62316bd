"""Every chapter has all parts of the shared outline, and enough of each."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from gates import glue
from gates.core import Book, Defect, Page
from gates.markdown import GAP, Heading
from text import anatomy


def chapters(book: Book) -> list[Page]:
    """Pages that say ``kind: chapter``, and those in the part of the contents named Chapters."""
    listed = {name for caption, name in book.toc_entries() if caption == "Chapters"}
    return [
        page
        for page in book.pages()
        if page.front_matter.get("kind") == "chapter"
        or (page.name in listed - anatomy.NO_CHAPTERS and not page.front_matter.get("kind"))
    ]


def words(page: Page) -> int:
    """Words a reader reads; a computed value counts as one."""
    return sum(
        len(re.findall(rf"[\w{GAP}][\w'’,.\-{GAP}]*", text.text)) for text in page.document.texts
    )


class _Chapter:
    def __init__(self, book: Book, page: Page):
        self.book = book
        self.page = page
        self.id = PurePosixPath(page.name).stem
        self.document = page.document
        self.found: list[Defect] = []
        self.labels = dict(self.document.labels)
        self.notebooks = {notebook.name: notebook for notebook in book.notebooks()}

    def say(self, line: int, message: str) -> None:
        self.found.append(Defect(self.page.name, line, message))

    def bounds(self, line: int, what: str, count: int, limits: tuple[int, int]) -> None:
        if not limits[0] <= count <= limits[1]:
            self.say(line, f"{count} {what}; a chapter has {limits[0]} to {limits[1]}")

    def at_least(self, line: int, what: str, count: int, least: int) -> None:
        if count < least:
            self.say(line, f"{count} {what}; a chapter has at least {least}")

    def heading(self, suffix: str) -> Heading | None:
        label = f"{self.id}-{suffix}"
        return next((h for h in self.document.headings if label in h.labels), None)

    def outputs(self, first: float = 0, last: float = float("inf")) -> list[tuple[int, str]]:
        """(line, stored HTML) of the blocks glued between two lines."""
        found = []
        for page, line, doc, key, _ in glue.uses(self.book):
            if page != self.page.name or not first <= line <= last:
                continue
            data = self.notebooks[doc].glued.get(key, {}) if doc in self.notebooks else {}
            html = next((data[mime] for mime in data if mime.endswith("text/html")), None)
            if html is not None:
                found.append((line, "".join(html)))
        return found

    def links(self, first: float, last: float) -> list[str]:
        return [link.href for link in self.document.links if first <= link.line <= last]

    def items(self, first: float, last: float) -> int:
        """Items of top-level lists between two lines of the source."""
        lines = self.page.text.split("\n")[int(first) - 1 : None if last > 1e9 else int(last)]
        return sum(bool(re.match(r"(?:[-*+]|\d+\.)\s", line)) for line in lines)

    # ---- the parts -----------------------------------------------------------------------------

    def check(self) -> list[Defect]:
        self.header()
        self.question()
        order = []
        for section in anatomy.SECTIONS:
            heading = self.heading(section.suffix)
            if heading is None:
                self.say(1, f"no section ({self.id}-{section.suffix})=: {section.what}")
                continue
            order.append((heading.line, section.suffix))
            self.holds(section, heading)
        if order != sorted(order):
            got = ", ".join(suffix for _, suffix in sorted(order))
            self.say(1, f"the sections stand in another order than the outline's: {got}")
        self.model()
        self.questions()
        self.live_figures()
        self.bounds(1, "words", words(self.page), anatomy.WORDS)
        claims = self.of_chapter("claims")
        self.at_least(1, "claims in the ledger", len(claims), anatomy.CLAIMS)
        return self.found

    def header(self) -> None:
        strip = [
            d
            for d in self.document.directives
            if anatomy.HEADER_STRIP_CLASS in str(d.options.get("class", "")).split()
        ]
        if len(strip) != 1:
            self.say(1, f"{len(strip)} header strips (:class: {anatomy.HEADER_STRIP_CLASS}), not 1")
            return
        for word in anatomy.HEADER_STRIP:
            if f"**{word}" not in strip[0].body:
                self.say(strip[0].line, f"the header strip does not say **{word}**")

    def question(self) -> None:
        outcomes = self.heading("outcomes")
        last = outcomes.line if outcomes else 40
        first = [text for text in self.document.texts if text.line < last]
        asked = any("?" in text.text for text in first)
        answered = any(
            role.name in ("glue:text", "fact") and role.line < last for role in self.document.roles
        )
        if not (asked and answered):
            self.say(1, "the first screen does not ask a question and answer it with one number")

    def holds(self, section: anatomy.Section, heading: Heading) -> None:
        first, last = self.document.section(heading)
        match section.holds:
            case "outcomes":
                self.outcomes(heading, first, last)
            case "guesses":
                html = "".join(html for _, html in self.outputs(first, last))
                if "mb-guess" not in html:
                    self.say(first, "no guesses are glued here")
                guesses = [q for q in self.of_chapter("questions") if q["type"] == "predict"]
                if len(guesses) != anatomy.GUESSES:
                    self.say(first, f"{len(guesses)} guesses in the bank, not {anatomy.GUESSES}")
            case "worked problems":
                self.at_least(
                    first, "worked problems", self.classed("worked"), anatomy.WORKED_PROBLEMS
                )
            case "link to a notebook":
                if not any(self.is_notebook(href) for href in self.links(first, last)):
                    self.say(first, "no link to the notebook that builds it")
            case "glued output":
                if not self.outputs(first, last):
                    self.say(first, f"nothing is shown here: {section.what}")
            case "rubric":
                tables = [
                    d
                    for d in self.document.directives
                    if first <= d.line <= last and "rubric" in d.argument.lower()
                ]
                if not tables:
                    self.say(first, "the design lab has no rubric")
                if not any(self.is_notebook(href) for href in self.links(first, last)):
                    self.say(first, "no link to the notebook that scores a design")
            case "exercises":
                count = self.classed("exercise")
                self.bounds(first, "exercises", count, anatomy.EXERCISES)
                starred = [
                    d
                    for d in self.document.directives
                    if "exercise" in str(d.options.get("class", "")).split()
                    and not re.search(r"[★*☆]", d.argument)
                ]
                for directive in starred:
                    self.say(directive.line, f"exercise {directive.argument!r} has no star")
                if not any("solutions" in href for href in self.links(first, last)):
                    self.say(first, "no link to the page of solutions")
            case "takeaways":
                self.bounds(first, "takeaways", self.items(first, last), anatomy.TAKEAWAYS)
                if len(self.links(first, last)) < self.items(first, last):
                    self.say(first, "a takeaway does not link to what shows it")
                roles = [r for r in self.document.roles if first <= r.line <= last]
                if not any(role.name == "term" for role in roles):
                    self.say(first, "no key terms ({term} roles)")
            case "reading":
                self.bounds(first, "works to read", self.items(first, last), anatomy.READING)

    def outcomes(self, heading: Heading, first: float, last: float) -> None:
        count = self.items(first, last)
        self.bounds(heading.line, "outcomes", count, anatomy.OUTCOMES)
        lines = self.page.text.split("\n")
        for number in range(int(first), min(int(min(last, 1e9)), len(lines)) + 1):
            if not re.match(r"(?:[-*+]|\d+\.)\s", lines[number - 1]):
                continue
            links = self.links(number, number)
            tests = [h for h in links if h.startswith(f"#{self.id}-{anatomy.QUESTIONS_SUFFIX}")]
            if not tests:
                self.say(number, "this outcome links to no questions that test it")
            if len(tests) == len(links):
                self.say(number, "this outcome links to no lab or problem that practises it")
        known = {q["outcome"] for q in self.of_chapter("questions")}
        if len(known) != count:
            self.say(
                heading.line,
                f"{count} outcomes here, {len(known)} in the question bank: "
                + ", ".join(sorted(known)),
            )

    def model(self) -> None:
        if f"{self.id}-{anatomy.NOTATION}" not in self.labels:
            self.say(1, f"no notation box (:name: {self.id}-{anatomy.NOTATION})")
        if not self.classed(anatomy.UNITS_BOX_CLASS):
            self.say(1, f"no units box (:class: {anatomy.UNITS_BOX_CLASS})")

    def questions(self) -> None:
        bank = [q for q in self.of_chapter("questions") if q["type"] != "predict"]
        groups: dict[str, int] = {}
        for question in bank:
            if "exercise" not in str(question["group"]):
                groups[question["group"]] = groups.get(question["group"], 0) + 1
        self.at_least(1, "questions in the bank", sum(groups.values()), anatomy.QUESTIONS)
        low, high = anatomy.QUESTIONS_IN_A_GROUP
        for group, count in groups.items():
            heading = self.heading(anatomy.QUESTIONS_SUFFIX + group)
            if heading is None:
                if not self.in_a_notebook(group):
                    self.say(
                        1,
                        f"questions {group!r} are in the bank, and neither a section of "
                        "the page nor a lab shows them",
                    )
                continue
            if not low <= count <= high:
                self.say(
                    heading.line,
                    f"{count} questions in {group!r}; {low} to {high} stand after a section",
                )
            html = "".join(html for _, html in self.outputs(*self.document.section(heading)))
            if "mb-quiz" not in html:
                self.say(heading.line, f"the questions {group!r} are not glued here")

    def live_figures(self) -> None:
        figures = [(line, html) for line, html in self.outputs() if "mb-explorable" in html]
        self.at_least(1, "explorables", len(figures), anatomy.EXPLORABLES)
        texts = [text.line for text in self.document.texts if anatomy.TRY_THIS in text.text]
        for line, _ in figures:
            if not any(line < other <= line + 12 for other in texts):
                self.say(line, f'no "{anatomy.TRY_THIS}" after this live figure')

    # ---- help ----------------------------------------------------------------------------------

    def classed(self, name: str) -> int:
        return sum(
            name in str(d.options.get("class", "")).split() for d in self.document.directives
        )

    def is_notebook(self, href: str) -> bool:
        if href.endswith(".ipynb"):
            return True
        label = href.removeprefix("#")
        return any(
            label == name
            for notebook in self.notebooks.values()
            for cell in notebook.cells
            if cell.kind == "markdown"
            for name in re.findall(r"^\(([^)]+)\)=$", cell.source, re.MULTILINE)
        )

    def in_a_notebook(self, group: str) -> bool:
        name = f'data-quiz="{self.id}.{group}"'.replace('"', '\\"')
        return any(
            name in notebook.text
            for notebook in self.notebooks.values()
            if PurePosixPath(notebook.name).stem != "figures"  # which only feeds the page
        )

    def of_chapter(self, folder: str) -> list[dict]:
        """The records of this chapter in one of the catalog's folders."""
        found = []
        for name in self.book.files(f"src/helpers/catalog/data/{folder}", suffixes=(".yaml",)):
            data = self.book.data(name.removeprefix("src/helpers/catalog/data/"))
            if isinstance(data, dict) and data.get("chapter") == self.id:
                found += data[folder]
            elif isinstance(data, list):
                found += [record for record in data if record.get("chapter") == self.id]
        return found


def check(book: Book) -> list[Defect]:
    """Report what a chapter lacks of the shared outline."""
    return [defect for page in chapters(book) for defect in _Chapter(book, page).check()]


# ---- planted defects: taken from the first chapter of the book ---------------------------------

CHAPTER = "chapters/roofline.md"


def a_missing_section(book: Book) -> str:
    return book.replace(CHAPTER, "(roofline-not-modelled)=\n", "(roofline-something)=\n")


def sections_in_another_order(book: Book) -> str:
    text = book.text(CHAPTER)
    text = text.replace("(roofline-claims)=", "(roofline-swap)=")
    text = text.replace("(roofline-reading)=", "(roofline-claims)=")
    return book.write(CHAPTER, text.replace("(roofline-swap)=", "(roofline-reading)="))


def a_header_without_a_date(book: Book) -> str:
    return book.replace(CHAPTER, "**Numbers last checked**", "**Numbers**")


def an_outcome_that_nothing_tests(book: Book) -> str:
    return book.replace(CHAPTER, "](#roofline-q-counting)", "](#roofline-count)")


def a_live_figure_without_advice(book: Book) -> str:
    return book.write(CHAPTER, book.text(CHAPTER).replace("Try this", "Observe"))


def too_many_words(book: Book) -> str:
    return book.append(CHAPTER, "\n\n" + "We count bytes. " * 2_100 + "\n")


def an_exercise_without_a_star(book: Book) -> str:
    return book.append(CHAPTER, "\n\n```{admonition} Exercise 99\n:class: exercise\nCount.\n```\n")


def questions_that_no_page_shows(book: Book) -> str:
    return book.replace(CHAPTER, "(roofline-q-ridge)=\n", "(roofline-ridge-questions)=\n")


def a_guess_too_few(book: Book) -> str:
    name = "src/helpers/catalog/data/questions/roofline.yaml"
    book.replace(name, "type: predict", "type: number\n    group: ridge")
    return CHAPTER


def half_the_claims(book: Book) -> str:
    name = "src/helpers/catalog/data/claims/roofline.yaml"
    text = book.text(name)
    for _ in range(text.count("chapter: roofline") - anatomy.CLAIMS + 1):
        text = text.replace("chapter: roofline", "chapter: none", 1)
    book.write(name, text)
    return CHAPTER


PLANTS = (
    a_missing_section, sections_in_another_order, a_header_without_a_date,
    an_outcome_that_nothing_tests, a_live_figure_without_advice, too_many_words,
    an_exercise_without_a_star, questions_that_no_page_shows, a_guess_too_few, half_the_claims,
)  # fmt: skip
