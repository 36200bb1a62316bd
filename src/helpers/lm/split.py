"""Which documents the model learns from, and which it is measured on: by a hash of the name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.lm.document import Document

SPLITS = ("train", "validation", "held_out")
SPLIT_SEED = 0  # the smallest that gives both small splits 2% of the bytes of every kind
VALIDATION_PERCENT = 4
HELD_OUT_PERCENT = 6


def split_of(document: Document) -> str:
    """Which split a document belongs to, by a hash of its name: the same on every machine.

    By the name and not the content, because the texts of two Python versions differ a little
    nearly everywhere: ``argparse`` must be held out from all of them or from none, or a model
    trained on one version would meet its training text in another version's held-out documents.
    The kind, a leading underscore and a package's ``__init__`` and private modules do not count: a
    module that became a package or moved behind an underscore stays on its side, and ``io``,
    ``_io`` and ``_pyio``, which say the same in other words, stand together, as do ``_abc`` and
    ``_py_abc``.

    Examples
    --------
    >>> split_of(Document("source/pathlib.py", "", "source")) == split_of(
    ...     Document("source/pathlib/__init__.py", "", "source"))
    True
    """
    module = document.name.partition("/")[2].removesuffix(".py").removesuffix("/__init__")
    module = re.sub(r"/_[^/]*$", "", module)  # a package's private module goes with the package
    key = f"{SPLIT_SEED}:" + re.sub(r"(^|/)_+(py_?)?", r"\1", module)
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
