"""Hand a value from a notebook to a page: ``glue("ridge", 295.3)`` here, ``{glue:text}`` there.

The book's pages take every number from a stored notebook output. This is the writing half of
MyST-NB's glue, without its dependency on Sphinx, so that it runs in Colab unchanged.
"""

from __future__ import annotations

from typing import Any

#: MyST-NB reads glued values that are not shown in the notebook under this prefix
HIDDEN_PREFIX = "application/papermill.record/"


def glue(key: str, value: Any, *, show: bool = False) -> None:
    """Store ``value`` under ``key`` in this cell's outputs.

    Parameters
    ----------
    key : str
        Name by which a page refers to the value; unique in the notebook.
    value : Any
        A number, a string, a matplotlib figure, or anything with a rich representation.
    show : bool
        Also show the value in the notebook.

    Raises
    ------
    ValueError
        If the key is not a non-empty string.
    RuntimeError
        If there is no running notebook.
    """
    if not isinstance(key, str) or not key.strip():
        raise ValueError(f"key: {key!r} is not a non-empty string")
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError as error:
        raise RuntimeError("glue() needs a notebook: IPython is not installed") from error
    shell = get_ipython()
    if shell is None:
        raise RuntimeError("glue() works inside a notebook only")
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a numpy or torch scalar prints as the plain number
    data, metadata = shell.display_formatter.format(value)
    prefix = "" if show else HIDDEN_PREFIX
    bundle = {prefix + mime: content for mime, content in data.items()}
    metadata["scrapbook"] = {"name": key, "mime_prefix": prefix}
    display(bundle, metadata=metadata, raw=True)
