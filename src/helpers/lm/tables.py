"""Tell tables from code: a source file of data says nothing about prose or code."""

from __future__ import annotations

import ast

LONG_LITERAL_LINES = 40


def is_table(text: str) -> bool:
    """Whether more than half of a source file's lines stand in long literals.

    So are the character maps of ``encodings``, HTML entities, the interpreter's build variables
    and the file behind ``pydoc_data.topics``: data that says nothing about prose or code. A
    literal is long with 40 lines; only statements at module level count.
    """
    lines = text.count("\n")
    if lines < LONG_LITERAL_LINES:
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
    return sum(span for span in spans if span >= LONG_LITERAL_LINES) > lines / 2


def is_string(node: ast.stmt) -> bool:
    """Whether a statement is a string by itself, as a docstring is."""
    value = getattr(node, "value", None)
    return isinstance(node, ast.Expr) and isinstance(value, ast.Constant)
