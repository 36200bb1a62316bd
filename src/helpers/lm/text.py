"""The text the book's model learns from: what ships with every Python.

The rule, in full. Three kinds of documents are collected from the running interpreter:

topic
    each entry of ``pydoc_data.topics`` (the language reference as ``help()`` shows it);
source
    each ``.py`` file of the standard library's folder and its packages, without the folders in
    `SKIPPED_FOLDERS` and without tables (more than half of the lines in long literals, see
    `helpers.lm.tables`);
docstring
    one document for each module written in C: the docstrings of the module, its functions, its
    types and their methods, those only that stand in no source file.

Then copies are taken out, across the whole collection and *before* the split
(:mod:`helpers.lm.copies`), and each document goes to train, validation or held-out by a hash of its
name (:mod:`helpers.lm.split`). Nothing of this text is in the repository; it is collected again
where it is needed.

This module collects. What the others make of the text can be had from here too.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from helpers.lm.copies import (
    DUPLICATE_SHARE,
    LONGEST_COPY_WORDS,
    SHINGLE_WORDS,
    Copies,
    Shingles,
    cut,
    deduplicate,
)
from helpers.lm.document import SHORTEST_DOCUMENT_BYTES, Document, clean
from helpers.lm.split import (
    HELD_OUT_PERCENT,
    SPLITS,
    VALIDATION_PERCENT,
    Corpus,
    split,
    split_of,
)
from helpers.lm.stranger import stranger_documents
from helpers.lm.tables import is_table

__all__ = [
    "DUPLICATE_SHARE",
    "HELD_OUT_PERCENT",
    "KINDS",
    "LONGEST_COPY_WORDS",
    "SHINGLE_WORDS",
    "SHORTEST_DOCUMENT_BYTES",
    "SKIPPED_FOLDERS",
    "SPLITS",
    "VALIDATION_PERCENT",
    "Copies",
    "Corpus",
    "Document",
    "Shingles",
    "c_modules",
    "clean",
    "collect",
    "corpus",
    "cut",
    "deduplicate",
    "docstrings",
    "is_table",
    "module_docstrings",
    "source_files",
    "sources",
    "split",
    "split_of",
    "stranger_documents",
    "topics",
]

KINDS = ("source", "topic", "docstring")
SKIPPED_FOLDERS = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "_bundled", "__pycache__"}
SKIPPED_MODULES = re.compile(r"_?xx|_test|_ctypes_test")  # C modules that only test the interpreter


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


@lru_cache(maxsize=1)
def corpus() -> Corpus:
    """``split(collect())``, collected once in a process."""
    return split(collect())
