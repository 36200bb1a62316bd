"""What a gate is, what a planted defect is, and the view of the repository that gates read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from gates import markdown

ROOT = Path(__file__).resolve().parents[2]

#: what a gate may read; a planted copy of the book links these and nothing else
MATTER = (
    "index.md",
    "_toc.yml",
    "_config.yml",
    "_templates",
    "pyproject.toml",
    "references.bib",
    "README.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "requirements.txt",
    "requirements-book.txt",
    ".ci",
    ".github",
    "chapters",
    "notebooks",
    "src/helpers",
    "tools",
    "tests",
)
SKIPPED = {"__pycache__", ".ipynb_checkpoints", ".hypothesis", ".pytest_cache"}


@dataclass(frozen=True, order=True)
class Defect:
    """Something that a gate found: where, and what to do about it."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Plant:
    """A defect put into a copy of the book; ``edit`` returns the file that the gate must name."""

    name: str
    edit: Callable[[Book], str]


@dataclass(frozen=True)
class Gate:
    """One property of the book: what it proves, where it runs, and the defects it must catch."""

    name: str
    proves: str
    where: str  # "text", "notebooks" or "site": the folder of tests/ that runs it
    check: Callable[[Any], list[Defect]]
    plants: tuple[Any, ...] = ()
    by_page: bool = False  # of the site: looks at one page after the other, so each can be a test


class Cell:
    """One cell of a stored notebook."""

    def __init__(self, number: int, raw: dict):
        self.number = number
        self.raw = raw
        self.kind: str = raw["cell_type"]
        self.source = "".join(raw["source"])
        self.tags: list[str] = raw.get("metadata", {}).get("tags", [])
        self.metadata: dict = raw.get("metadata", {})
        self.outputs: list[dict] = raw.get("outputs", [])


class Notebook:
    """A stored notebook, by its path in the repository."""

    def __init__(self, book: Book, name: str):
        self.name = name
        self.path = book.root / name
        self.text = self.path.read_text("utf-8")
        self.raw = json.loads(self.text)
        self.cells = [Cell(number, raw) for number, raw in enumerate(self.raw["cells"], 1)]

    def line(self, cell: Cell) -> int:
        """A cell has no line of its own: its number stands in for one."""
        return cell.number

    @cached_property
    def glued(self) -> dict[str, dict]:
        """Key -> stored data bundle of everything that the notebook hands to a page."""
        found = {}
        for cell in self.cells:
            for output in cell.outputs:
                key = output.get("metadata", {}).get("scrapbook", {}).get("name")
                if key:
                    found[key] = output["data"]
        return found


@dataclass
class Page:
    """A prose page: its path in the repository, its text, and what the parser makes of it."""

    name: str
    text: str

    @cached_property
    def document(self) -> markdown.Document:
        return markdown.read(self.text)

    @cached_property
    def front_matter(self) -> dict:
        return self.document.front_matter


@lru_cache(maxsize=512)
def _page(name: str, text: str) -> Page:
    # the same text is parsed once, however many planted copies of the book hold it
    return Page(name, text)


@dataclass
class Book:
    """The repository as gates see it; ``root`` is the real one or a planted copy."""

    root: Path = ROOT
    _cache: dict = field(default_factory=dict)

    # ---- reading -------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        return (self.root / name).read_text("utf-8")

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def files(self, *folders: str, suffixes: tuple[str, ...] | None = None) -> list[str]:
        """Paths of the files under ``folders`` (all matter without any), in a stable order."""
        found = []
        for folder in folders or MATTER:
            top = self.root / folder
            if top.is_file():
                found.append(folder)
            for directory, below, names in os.walk(top, followlinks=True):
                below[:] = [name for name in below if name not in SKIPPED]
                for name in names:
                    found.append((Path(directory) / name).relative_to(self.root).as_posix())
        return sorted(n for n in set(found) if not suffixes or n.endswith(suffixes))

    @property
    def toc(self) -> dict:
        return yaml.safe_load(self.text("_toc.yml"))

    def toc_entries(self) -> list[tuple[str, str]]:
        """(caption of the part, file name with its suffix) of every page, the root first."""
        toc = self.toc
        found = [("", self._with_suffix(toc["root"]))]

        def walk(caption: str, entries: list[dict]) -> None:
            for entry in entries:
                if "file" in entry:
                    found.append((caption, self._with_suffix(entry["file"])))
                for key in ("chapters", "sections"):
                    walk(caption, entry.get(key, []))

        walk("", toc.get("chapters", []))
        for part in toc.get("parts", []):
            walk(part.get("caption", ""), part.get("chapters", []))
        return found

    def _with_suffix(self, name: str) -> str:
        for suffix in ("", ".md", ".ipynb"):
            if self.has(name + suffix):
                return name + suffix
        return name + ".md"

    def pages(self) -> list[Page]:
        """Every prose page: in the table of contents or not."""
        names = ["index.md", *self.files("chapters", suffixes=(".md",))]
        return [_page(name, self.text(name)) for name in names]

    def chapters(self) -> list[Page]:
        """The pages that must follow a chapter's outline: those that say ``kind: chapter``."""
        return [page for page in self.pages() if page.front_matter.get("kind") == "chapter"]

    def notebooks(self) -> list[Notebook]:
        """Every stored notebook that can be read."""
        found = []
        for name in self.files("notebooks", suffixes=(".ipynb",)):
            try:
                found.append(self._notebook(name))
            except ValueError:
                continue  # the notebook gate reports it
        return found

    def _notebook(self, name: str) -> Notebook:
        path = self.root / name
        key = (str(path.resolve()), path.stat().st_mtime_ns)
        if key not in _NOTEBOOKS:
            _NOTEBOOKS[key] = Notebook(self, name)
        return _NOTEBOOKS[key]

    def prose(self) -> list[tuple[str, int, markdown.Document]]:
        """(file, line offset, parsed text) of all prose: pages, and notebooks' Markdown cells."""
        found = [(page.name, 0, page.document) for page in self.pages()]
        for notebook in self.notebooks():
            for cell in notebook.cells:
                if cell.kind == "markdown":
                    document = _page(notebook.name, cell.source).document
                    found.append((f"{notebook.name} (cell {cell.number})", 0, document))
        return found

    def data(self, name: str) -> Any:
        """A YAML file of the catalog."""
        return _yaml(self.text(f"src/helpers/catalog/data/{name}"))

    # ---- planting ------------------------------------------------------------------------------

    def planted(self, folder: Path) -> Book:
        """A copy whose files are links to the real ones, to be edited one by one."""
        for name in MATTER:
            source = self.root / name
            if not source.exists():
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_file():
                target.symlink_to(source)
                continue
            for directory, below, files in os.walk(source):
                below[:] = [part for part in below if part not in SKIPPED]
                here = target / Path(directory).relative_to(source)
                here.mkdir(parents=True, exist_ok=True)
                for file in files:
                    (here / file).symlink_to(Path(directory) / file)
        return Book(folder)

    def write(self, name: str, text: str) -> str:
        """Replace a file of a planted copy; the real book is never touched."""
        if self.root == ROOT:
            raise ValueError("defects are planted in a copy, never in the book")
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text, "utf-8")
        return name

    def append(self, name: str, text: str) -> str:
        return self.write(name, self.text(name) + text)

    def replace(self, name: str, old: str, new: str) -> str:
        text = self.text(name)
        if old not in text:
            raise ValueError(f"{name}: {old!r} is not there, so the plant needs another place")
        return self.write(name, text.replace(old, new, 1))

    def edit_notebook(self, name: str, change: Callable[[dict], None]) -> str:
        raw = json.loads(self.text(name))
        change(raw)
        return self.write(
            name, json.dumps(raw, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        )


_NOTEBOOKS: dict[tuple[str, int], Notebook] = {}


@lru_cache(maxsize=64)
def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
