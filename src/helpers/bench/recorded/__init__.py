"""Recorded runs: measurements that ship with the package, with every sample.

A page must show the same numbers on every build, and a reader without the machine must see what
it did. So a measuring cell goes through :func:`recorded_or_live`: it measures where a reader runs
it, and gives the shipped run where the book is built (``MOVING_BYTES_RECORDED=1``). Recorded runs
change only when ``python -m helpers.bench.record`` makes them anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.bench.cache_steps import CacheRun
from helpers.bench.lengths import LengthsRun
from helpers.bench.machine import MachineCard
from helpers.bench.operations import OperationsRun
from helpers.bench.serving import ServingRun
from helpers.bench.smaller import SmallerRun
from helpers.bench.speculation import SpeculationRun
from helpers.bench.storage import CardFileError, read_json

FOLDER = Path(__file__).parent
ENVIRONMENT_VARIABLE = "MOVING_BYTES_RECORDED"

#: what the "kind" of a file says about its schema
KINDS = {
    "lengths": LengthsRun,
    "machine-card": MachineCard,
    "operations": OperationsRun,
    "serving": ServingRun,
    "smaller-caches": SmallerRun,
    "speculation": SpeculationRun,
    "cache": CacheRun,
}


def names() -> list[str]:
    """Names of the recorded runs that ship.

    Examples
    --------
    >>> "reference-cpu-card" in names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Any:
    """Read a recorded run.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    CacheRun, LengthsRun, MachineCard, OperationsRun, ServingRun, SmallerRun or SpeculationRun
        By the file's kind, checked against its schema.

    Raises
    ------
    ValueError
        For an unknown name.
    helpers.bench.storage.CardFileError
        For a file with a wrong value; names the file and the field.
    """
    if name not in names():
        raise ValueError(f"name: {name!r} is not one of {', '.join(names())}")
    path = FOLDER / f"{name}.json"
    fix = "Restore it from the repository, or make it anew with: python -m helpers.bench.record"
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("kind")
    except (ValueError, AttributeError) as error:
        raise CardFileError(f"{path}: not a JSON object ({error}). {fix}") from None
    if kind not in KINDS:
        raise CardFileError(f"{path}: kind: {kind!r} is not one of {', '.join(KINDS)}. {fix}")
    return read_json(path, KINDS[kind], fix=fix)


def wanted() -> bool:
    """Whether the environment asks for recorded runs in place of live ones."""
    return os.environ.get(ENVIRONMENT_VARIABLE, "") == "1"


def recorded_or_live(name: str, measure: Callable[[], Any]) -> Any:
    """The recorded run where the book is built, a live one everywhere else.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    measure : callable
        Measures and returns the same kind of record.

    Returns
    -------
    Any
        Shipped or fresh, of the kinds that :func:`load` gives.

    Raises
    ------
    ValueError
        For an unknown name, also when measuring live: so that a typing error shows at once.
    """
    if name not in names():
        raise ValueError(f"name: {name!r} is not one of {', '.join(names())}")
    return load(name) if wanted() else measure()
