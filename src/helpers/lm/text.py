"""The text the book's model learns from: what ships with every Python.

The rule, in full. Three kinds of documents are collected from the running interpreter:

topic
    each entry of ``pydoc_data.topics`` (the language reference as ``help()`` shows it);
source
    each ``.py`` file of the standard library's folder and its packages, without the folders in
    `SKIPPED_FOLDERS` and without tables (more than half of the lines in long literals, see
    `is_table`);
docstring
    one document for each module written in C: the docstrings of the module, its functions, its
    types and their methods, those only that stand in no source file.

Then copies are taken out, across the whole collection and *before* the split (see `deduplicate`),
and each document goes to train, validation or held-out by a hash of its name (see `split_of`).
Nothing of this text is in the repository; it is collected again where it is needed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import re
import sys
import sysconfig
import tokenize
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

KINDS = ("source", "topic", "docstring")
SKIPPED_FOLDERS = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "_bundled", "__pycache__"}
SKIPPED_MODULES = re.compile(r"_?xx|_test|_ctypes_test")  # C modules that only test the interpreter

SHORTEST_DOCUMENT_BYTES = 200
SHINGLE_WORDS = 13  # words in a row that count as copied; below, languages simply repeat themselves
DUPLICATE_SHARE = 0.4  # a document with more of its words copied than this is dropped
LONGEST_COPY_WORDS = 60  # a longer copied passage is cut out of a document that stays

SPLITS = ("train", "validation", "held_out")
SPLIT_SEED = 0  # the smallest that gives both small splits 2% of the bytes of every kind
VALIDATION_PERCENT = 4
HELD_OUT_PERCENT = 6


@dataclass(frozen=True)
class Document:
    """One text: a topic, a source file, or the docstrings of a C module."""

    name: str
    text: str
    kind: str

    @property
    def bytes(self) -> int:
        """Length in UTF-8, what every figure per byte divides by."""
        return len(self.text.encode("utf-8"))


# --- collecting -----------------------------------------------------------------------------------


def topics() -> list[Document]:
    """The entries of ``pydoc_data.topics``; none, with a warning, where a Python comes without."""
    try:
        from pydoc_data.topics import topics as entries
    except ImportError:
        warnings.warn(
            "this Python has no pydoc_data.topics (some distributions split it off into a "
            "documentation package): the corpus is made of source and docstrings only",
            stacklevel=2,
        )
        return []
    return [Document(f"topic/{name}", clean(entries[name]), "topic") for name in sorted(entries)]


def sources(folder: Path | None = None) -> list[Document]:
    """The standard library's own ``.py`` files, by the rule above.

    Parameters
    ----------
    folder : Path, optional
        Where to look; the running interpreter's standard library if not given.

    Returns
    -------
    list of Document
        Empty, with a warning, where the running Python ships its library zipped or compiled.

    Raises
    ------
    FileNotFoundError
        If a folder was given and holds no source.
    """
    asked, folder = folder, Path(folder or sysconfig.get_path("stdlib"))
    found = []
    for path in source_files(folder):
        try:
            with tokenize.open(path) as file:  # obeys the file's own coding line
                text = clean(file.read())
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue  # unreadable as Python text: nothing to learn from
        if not is_table(text):
            name = "source/" + path.relative_to(folder).as_posix()
            found.append(Document(name, text, "source"))
    if not found and asked:
        raise FileNotFoundError(f"folder: no Python source that counts under {folder}")
    if not found:
        warnings.warn(
            f"no standard-library source under {folder} (this Python ships it zipped or "
            "compiled): the corpus is made of topics and docstrings only. Pass the folder of an "
            "unpacked library, collect(folder), to have the source",
            stacklevel=2,
        )
    return found


def source_files(folder: Path) -> Iterator[Path]:
    """Python files below a folder, without the folders that do not count."""
    for here, folders, files in os.walk(folder):
        # "site-packages", "lib-dynload", "config-3.11-...": a folder with a hyphen is no package
        folders[:] = sorted(f for f in folders if f.isidentifier() and f not in SKIPPED_FOLDERS)
        yield from (Path(here, name) for name in sorted(files) if name.endswith(".py"))


def docstrings() -> list[list[str]]:
    """For each module written in C: its name, then the docstrings found in it."""
    found = []
    for name in c_modules():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a deprecated module says so when it is imported
                module = importlib.import_module(name)
        except Exception:
            continue  # built without this module's library: nothing to collect
        found.append([name, *module_docstrings(module)])
    return found


def c_modules() -> list[str]:
    """Names of the modules without Python source, built in or loaded from a shared library."""
    names = set(sys.builtin_module_names)
    # POSIX keeps shared modules in lib-dynload beside the source, Windows in DLLs
    folders = (Path(sysconfig.get_path("stdlib")) / "lib-dynload", Path(sys.base_prefix) / "DLLs")
    for folder in folders:
        for suffix in EXTENSION_SUFFIXES:
            names |= {path.name.split(".")[0] for path in folder.glob(f"*{suffix}")}
    return sorted(name for name in names if not SKIPPED_MODULES.match(name))


def module_docstrings(module) -> Iterator[str]:
    """Docstrings of a module, its functions, types and methods; signature first where known."""
    members = [(module.__name__, module)]
    for name, member in sorted(vars(module).items()):
        if getattr(member, "__module__", None) == module.__name__ and callable(member):
            members.append((name, member))
            if inspect.isclass(member):
                members += [(f"{name}.{n}", m) for n, m in sorted(vars(member).items())]
    for name, member in members:
        text = getattr(member, "__doc__", None)
        if isinstance(text, str) and text.strip() and not is_value(member):
            # as C code writes it down: "sqrt($module, x, /)", "append($self, object, /)"
            signature = getattr(member, "__text_signature__", None) or ""
            signature = signature.replace("$", "").replace("(self, /)", "()")
            yield f"{name}{signature}\n{inspect.cleandoc(clean(text))}\n"


def is_value(member) -> bool:
    """Whether a member is plain data, whose ``__doc__`` is only that of its type."""
    return isinstance(member, str | bytes | int | float | complex | tuple | list | dict | None)


def clean(text: str) -> str:
    """Line ends as ``\\n``, no spaces at line ends, one line end at the end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "")
    return re.sub(r"[ \t]+\n", "\n", text).strip("\n") + "\n"


def is_table(text: str) -> bool:
    """Whether more than half of a source file's lines stand in long literals.

    So are the character maps of ``encodings``, HTML entities, the interpreter's build variables
    and the file behind ``pydoc_data.topics``: data that says nothing about prose or code. A
    literal is long with 40 lines; only statements at module level count.
    """
    lines = text.count("\n")
    if lines < 40:
        return False
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):
        return False
    data = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)
    spans = [
        node.end_lineno - node.lineno + 1
        for node in statements
        if isinstance(node, data) and not is_string(node)
    ]
    return sum(span for span in spans if span >= 40) > lines / 2


def is_string(node: ast.stmt) -> bool:
    """Whether a statement is a string by itself, as a docstring is."""
    value = getattr(node, "value", None)
    return isinstance(node, ast.Expr) and isinstance(value, ast.Constant)


# --- copies ---------------------------------------------------------------------------------------


class Shingles:
    """The runs of `SHINGLE_WORDS` words seen so far; says which words of a text are copied.

    Words are what stands between white space, so neither indentation nor line breaks hide a copy.

    Examples
    --------
    >>> seen = Shingles(words=3)
    >>> seen.add("the quick brown fox jumps")
    >>> seen.copied("a quick   brown\\nfox sleeps").tolist()
    [False, True, True, True, False]
    """

    def __init__(self, words: int = SHINGLE_WORDS):
        self.words = words
        self._ids: dict[str, int] = {}
        self._seen: set[int] = set()
        # a sum of products modulo 2**64 names a run; the factors are odd and fixed
        factors = np.random.default_rng(0).integers(1, 2**62, words, dtype=np.uint64)
        self._factors = factors * np.uint64(2) + np.uint64(1)

    def _names(self, text: str) -> tuple[int, list[int]]:
        ids = [self._ids.setdefault(word, len(self._ids) + 1) for word in text.split()]
        if len(ids) < self.words:
            return len(ids), []
        # splitmix spreads the small numbers over 64 bits
        x = np.array(ids, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        runs = np.lib.stride_tricks.sliding_window_view(x, self.words)
        return len(ids), (runs * self._factors).sum(axis=1, dtype=np.uint64).tolist()

    def add(self, text: str) -> None:
        """Remember the runs of a text."""
        self._seen.update(self._names(text)[1])

    def copied(self, text: str) -> np.ndarray:
        """For each word, whether it stands in a run that was seen before."""
        count, names = self._names(text)
        mask = np.zeros(count, dtype=bool)
        hits = np.array([name in self._seen for name in names], dtype=bool)
        for offset in range(self.words if len(names) else 0):
            mask[offset : offset + len(hits)] |= hits
        return mask


@dataclass
class Copies:
    """What `deduplicate` took out; goes into the data card."""

    same: int = 0  # documents equal to an earlier one but for white space
    near: int = 0  # documents mostly copied from earlier ones
    short: int = 0  # documents under SHORTEST_DOCUMENT_BYTES, before or after cutting
    docstrings: int = 0  # docstrings that stand in an earlier document
    passages: int = 0  # copied passages cut out of documents that stayed
    passage_bytes: int = 0
    dropped: list[str] = field(default_factory=list, repr=False)


def deduplicate(
    documents: Iterable[Document], seen: Shingles | None = None, copies: Copies | None = None
) -> list[Document]:
    """Take out copies, the longest document first, so that no passage stands in two documents.

    A word counts as copied if it stands in a run of 13 words that an earlier document holds.

    1. A document equal to an earlier one but for white space is dropped.
    2. One with more than 40% of its words copied is dropped (a near duplicate).
    3. From one that stays, every copied passage of more than 60 words is cut out, in whole lines.
    4. What is then under 200 bytes is no document.
    """
    seen = Shingles() if seen is None else seen
    copies = Copies() if copies is None else copies
    kept, texts = [], set()
    for document in sorted(documents, key=lambda d: (-len(d.text), d.name)):
        words = tuple(document.text.split())
        key = hashlib.sha256(" ".join(words).encode()).digest()
        if document.bytes < SHORTEST_DOCUMENT_BYTES:
            copies.short += 1
            continue
        if key in texts:
            copies.same += 1
            copies.dropped.append(document.name)
            continue
        copied = seen.copied(document.text)
        if copied.mean() > DUPLICATE_SHARE:
            copies.near += 1
            copies.dropped.append(document.name)
            continue
        texts.add(key)
        shorter, passages = cut(document.text, copied)
        copies.passages += passages
        copies.passage_bytes += len(document.text.encode()) - len(shorter.encode())
        document = replace(document, text=shorter)
        if document.bytes < SHORTEST_DOCUMENT_BYTES:
            copies.short += 1
            continue
        seen.add(document.text)
        kept.append(document)
    return kept


def cut(text: str, copied: np.ndarray) -> tuple[str, int]:
    """Remove the lines of every copied passage of more than `LONGEST_COPY_WORDS` words."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], copied.astype(np.int8), [0]])))
    passages = [(a, b) for a, b in edges.reshape(-1, 2) if b - a > LONGEST_COPY_WORDS]
    if not passages:
        return text, 0
    gone = np.zeros(len(copied), dtype=bool)
    for start, stop in passages:
        gone[start:stop] = True
    lines, position = [], 0
    for line in text.splitlines(keepends=True):
        count = len(line.split())
        # a line with one word of the passage goes: nothing of it may stay at either end
        if not gone[position : position + count].any():
            lines.append(line)
        position += count
    return clean("".join(lines)), len(passages)


# --- the collection -------------------------------------------------------------------------------


def collect(folder: Path | None = None, copies: Copies | None = None) -> list[Document]:
    """Collect the corpus from the running interpreter: no copies, ordered by name.

    Parameters
    ----------
    folder : Path, optional
        A standard-library folder other than the running interpreter's.
    copies : Copies, optional
        Filled with what was taken out.

    Returns
    -------
    list of Document

    Raises
    ------
    RuntimeError
        If this Python holds no text at all. What only a part of it lacks is told by a warning.
    """
    copies = Copies() if copies is None else copies
    seen = Shingles()
    kept = deduplicate(sources(folder) + topics(), seen, copies)
    # docstrings come last and one by one: one that stands in a kept document is left out
    modules, said = [], set()
    for name, *texts in docstrings():
        fresh = []
        for text in texts:
            body = " ".join(text.split("\n", 1)[1].split())
            if body in said or (len(body.split()) and seen.copied(text).mean() > DUPLICATE_SHARE):
                copies.docstrings += 1
                continue
            said.add(body)
            fresh.append(text)
        if fresh:
            modules.append(Document(f"docstring/{name}", clean("\n".join(fresh)), "docstring"))
    kept += deduplicate(modules, seen, copies)
    if not kept:
        raise RuntimeError("this Python comes with neither source, topics nor docstrings")
    return sorted(kept, key=lambda document: document.name)


# --- the split ------------------------------------------------------------------------------------


def split_of(document: Document) -> str:
    """Which split a document belongs to, by a hash of its name: the same on every machine.

    By the name and not the content, because the texts of two Python versions differ a little
    nearly everywhere: ``argparse`` must be held out from all of them or from none, or a model
    trained on one version would meet its training text in another version's held-out documents.
    The kind, a leading underscore and a package's ``__init__`` and private modules do not count: a
    module that became a package or moved behind an underscore stays on its side, and ``io``,
    ``_io`` and ``_pyio``, which say the same in other words, stand together.

    Examples
    --------
    >>> split_of(Document("source/pathlib.py", "", "source")) == split_of(
    ...     Document("source/pathlib/__init__.py", "", "source"))
    True
    """
    module = document.name.partition("/")[2].removesuffix(".py").removesuffix("/__init__")
    module = re.sub(r"/_[^/]*$", "", module)  # a package's private module goes with the package
    key = f"{SPLIT_SEED}:" + re.sub(r"(^|/)_+(py)?", r"\1", module)
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    if number < HELD_OUT_PERCENT:
        return "held_out"
    return "validation" if number < HELD_OUT_PERCENT + VALIDATION_PERCENT else "train"


@dataclass(frozen=True)
class Corpus:
    """Documents by split."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    held_out: tuple[Document, ...]

    def __iter__(self):
        return iter((self.train, self.validation, self.held_out))


def split(documents: Iterable[Document]) -> Corpus:
    """Sort documents into train, validation and held-out; the order inside each is kept."""
    parts: dict[str, list[Document]] = {name: [] for name in SPLITS}
    for document in documents:
        parts[split_of(document)].append(document)
    return Corpus(*(tuple(parts[name]) for name in SPLITS))


@lru_cache(maxsize=1)
def corpus() -> Corpus:
    """``split(collect())``, collected once in a process."""
    return split(collect())


# --- the stranger's text --------------------------------------------------------------------------


def stranger_documents() -> list[Document]:
    """Text for the *stranger*: the names of Unicode's characters, one in a line, by code page.

    It too comes with every Python (module ``unicodedata``), it uses the same alphabet and the same
    tokenizer, and it shares neither words in a row, nor grammar, nor indentation with code or its
    documentation: a model trained on it is well trained and still guesses badly here. Names that
    are computed from the code point (ideographs, Hangul syllables) are left out.
    """
    documents = []
    for page in range(0, sys.maxunicode + 1, 256):
        names = (unicodedata.name(chr(code), "") for code in range(page, page + 256))
        lines = [n for n in names if n and not re.search(r"-[0-9A-F]{4,5}$|^HANGUL SYLL", n)]
        text = "".join(line + "\n" for line in lines)
        if len(text) >= SHORTEST_DOCUMENT_BYTES:
            documents.append(Document(f"unicode/U+{page:04X}", text, "unicode"))
    return documents
