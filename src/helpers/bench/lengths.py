"""How long real answers are: docstrings of the standard library, as people wrote them.

A function's signature is the prompt, its docstring the answer, both cut into the book's tokens.
Only lengths are kept. They are a measurement: the texts of two Python versions differ a little.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helpers.bench.environment import Environment, current_environment

COMMAND = "python -m helpers.bench.record lengths"
NAME = "reference-docstring-lengths"

#: what opens a docstring, and what closes it: an answer's last token brings the quotes
OPENS, CLOSES = '\n    """', '"""'

#: modules that stand at the same place, with source, in Python 3.11 to 3.13
MODULES = (
    "argparse", "ast", "calendar", "collections", "configparser", "contextlib", "copy",
    "csv", "dataclasses", "difflib", "dis", "enum", "fileinput", "fractions", "ftplib", "functools",
    "gettext", "gzip", "heapq", "inspect", "ipaddress", "locale", "mailbox", "optparse",
    "random", "shutil", "smtplib", "socket", "statistics", "string", "subprocess", "tarfile",
    "tempfile", "textwrap", "threading", "tokenize", "traceback", "types", "typing", "uuid",
    "warnings", "weakref",
)  # fmt: skip


class LengthsRun(BaseModel):
    """Lengths of requests, where they come from and when.

    Attributes
    ----------
    environment : Environment
        Whose ``python`` says which texts were measured.
    created : date
    command : str
    seconds_spent : float
    modules : int
        How many modules were read.
    lengths : tuple of (int, int)
        Tokens of the prompt and of the answer of each, in the order of the text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: Literal["lengths"] = "lengths"
    environment: Environment
    created: date
    command: str = COMMAND
    seconds_spent: float = Field(ge=0)
    modules: int = Field(ge=1)
    lengths: tuple[tuple[int, int], ...] = Field(min_length=1)


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Signature and docstring of each class and function of a source text that has one.

    Examples
    --------
    >>> list(documented('def mean(values):\\n    "The sum over the count."\\n    ...'))
    [('def mean(values):', 'The sum over the count.')]
    """
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]), docstring


def measure(modules: Sequence[str] = MODULES, *, tokenizer: Any = None) -> LengthsRun:
    """Measure the docstrings of the running Python.

    Parameters
    ----------
    modules : sequence of str
        Which modules; one without a source file is passed over.
    tokenizer : optional
        The book's own unless given.

    Returns
    -------
    LengthsRun
        If no module has a source file (some Pythons ship the library zipped or compiled), the
        recorded run, and a printed line says so.
    """
    from helpers.lm.tokenizer import load

    start = time.perf_counter()
    tokenizer = load() if tokenizer is None else tokenizer
    prompts, answers, read = [], [], 0
    for name in modules:
        path = _source_file(name)
        if path is None:
            continue
        read += 1
        for signature, docstring in documented(path.read_text(encoding="utf-8")):
            prompts.append(signature + OPENS)
            answers.append(docstring + CLOSES)
    if not prompts:
        from helpers.bench import recorded

        print("This Python has its library without source; these are the recorded lengths.")
        return recorded.load(NAME)
    lengths = (map(len, tokenizer.encode_many(texts)) for texts in (prompts, answers))
    return LengthsRun(
        environment=current_environment(),
        created=date.today(),
        modules=read,
        lengths=tuple(zip(*lengths, strict=True)),
        seconds_spent=round(time.perf_counter() - start, 1) or 0.1,
    )


def _source_file(module: str) -> Path | None:
    """Where the source of a module is; None if it has none."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return None
    origin = Path(spec.origin) if spec is not None and spec.has_location else None
    return origin if origin is not None and origin.suffix == ".py" and origin.is_file() else None
