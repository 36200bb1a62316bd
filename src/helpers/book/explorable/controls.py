"""What a reader can change: a choice from a list, or a slider over a few values.

A slider has stops, not a continuum: the quantities of this book are powers of two, batch sizes or
data widths, and a finite list is what makes it possible to check every setting of a figure.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.formulas.expression import (
    EXACT_INTEGER_LIMIT,
    Expression,
    Templates,
    variable,
)

#: more would not fit a phone, and a reader cannot hold more in mind
MOST_SLIDERS, MOST_SELECTS = 3, 2


class Record:
    """Named values with attribute access: the settings, or one row of a choice.

    Examples
    --------
    >>> Record(peak=989e12).peak
    989000000000000.0
    """

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name!r} is not known here; allowed are {', '.join(self.__dict__)}")

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


@dataclass(frozen=True)
class Control:
    """A slider or a list of choices.

    Parameters
    ----------
    label : str
        What the reader sees beside it.
    stops : tuple
        The values, in order; for a choice from a table, dicts of numbers.
    names : tuple of str
        What the reader sees for each stop.
    start : int
        Position of the first setting.
    unit : str
        Written behind the value.
    is_select : bool
        A drop-down list instead of a slider.
    """

    label: str
    stops: tuple
    names: tuple[str, ...]
    start: int
    unit: str = ""
    is_select: bool = False

    def shown(self, position: int) -> str:
        """Return a stop as the reader sees it, with its unit."""
        return f"{self.names[position]} {self.unit}".rstrip()

    def key(self, position: int) -> Any:
        """Return what stands for a stop in :meth:`Explorable.python`: its value, or its name."""
        return self.names[position] if self.is_select else self.stops[position]

    def position(self, argument: str, key: Any) -> int:
        """Return where a value or name stands in the list."""
        keys = [self.key(position) for position in range(len(self.stops))]
        if key not in keys:
            raise ValueError(f"{argument}: {key!r} is not one of {keys}")
        return keys.index(key)

    def plain(self, position: int) -> Any:
        """Return what the drawing function gets when it runs on plain numbers."""
        stop = self.stops[position]
        return Record(**stop) if isinstance(stop, dict) else stop

    def variables(self, argument: str) -> dict[str, Any]:
        """Return the start values by the variable's full name, such as ``chip.peak``."""
        return flat(argument, self.stops[self.start])

    def traced(self, argument: str, templates: Templates) -> Any:
        """Return what the drawing function gets when it is recorded."""
        leaves: dict[str, Expression] = {
            name: variable(name, value, templates=templates)
            for name, value in self.variables(argument).items()
        }
        if not isinstance(self.stops[self.start], dict):
            return leaves[argument]
        return Record(**{name.split(".")[1]: leaf for name, leaf in leaves.items()})


def flat(argument: str, stop: Any) -> dict[str, Any]:
    """Return a stop's value, or its fields, by full variable name."""
    if isinstance(stop, dict):
        return {f"{argument}.{field}": value for field, value in stop.items()}
    return {argument: stop}


def values(
    label: str,
    stops: Sequence[float],
    start: float,
    unit: str = "",
    show: Callable[[float], str] = "{:g}".format,
) -> Control:
    """Make a slider over the numbers given.

    Parameters
    ----------
    label : str
        What the reader sees beside it.
    stops : sequence of numbers
        In increasing order.
    start : number
        One of the stops.
    unit : str
        Written behind the number.
    show : callable
        Turns a stop into text.

    Raises
    ------
    ValueError
        If there are fewer than two stops, they do not increase, or the start is not among them.

    Examples
    --------
    >>> values("Bytes per weight", [0.5, 1, 2, 4], 2).names
    ('0.5', '1', '2', '4')
    """
    stops = tuple(_number(label, "stops", stop) for stop in stops)
    if len(stops) < 2 or any(left >= right for left, right in itertools.pairwise(stops)):
        raise ValueError(f"{label}: stops: {list(stops)}: allowed are two or more that increase")
    if start not in stops:
        raise ValueError(f"{label}: start: {start!r} is not one of {list(stops)}")
    return Control(_text(label), stops, tuple(show(s) for s in stops), stops.index(start), unit)


def powers(
    label: str,
    low: int,
    high: int,
    start: int,
    unit: str = "",
    show: Callable[[int], str] | None = None,
) -> Control:
    """Make a slider that doubles from stop to stop.

    Examples
    --------
    >>> powers("Context", 1024, 4096, 2048, "tokens").names
    ('1K', '2K', '4K')

    Raises
    ------
    ValueError
        If ``high`` is not ``low`` doubled some number of times, or the start is not a stop.
    """
    if not low > 0:
        raise ValueError(f"{label}: low: {low!r} is not above 0")
    stops = [low]
    while stops[-1] < high:
        stops.append(stops[-1] * 2)
    if stops[-1] != high:
        raise ValueError(f"{label}: high: {high!r} is not {low!r} doubled; allowed is {stops[-1]}")
    return values(label, stops, start, unit, show or _in_binary_thousands)


def choice(label: str, table: Mapping[str, Any], start: str | None = None) -> Control:
    """Make a drop-down list.

    Parameters
    ----------
    label : str
        What the reader sees above it.
    table : mapping of str to number or to mapping
        The entries by name: one number each, or several named ones, as in
        ``{"H100 SXM": dict(peak=989e12, bandwidth=3.35e12)}``. Each row also gets its ``name``.
    start : str, optional
        The entry chosen first; the table's first if not given.

    Raises
    ------
    ValueError
        If there are fewer than two entries, their fields differ, or the start is not among them.

    Examples
    --------
    >>> choice("Data type", {"bf16": 2, "fp8": 1}).stops
    (2, 1)
    """
    names = tuple(table)
    if len(names) < 2:
        raise ValueError(f"{label}: table: has {len(names)} entries; allowed are two or more")
    start = names[0] if start is None else start
    if start not in names:
        raise ValueError(f"{label}: start: {start!r} is not one of {list(names)}")
    stops = tuple(_row(label, name, table[name]) for name in names)
    fields = [set(stop) if isinstance(stop, dict) else None for stop in stops]
    if any(others != fields[0] for others in fields):
        raise ValueError(f"{label}: table: the entries have different fields: {fields}")
    return Control(_text(label), stops, names, names.index(start), is_select=True)


def check_controls(controls: Mapping[str, Control]) -> None:
    """Raise unless there are one to three sliders and at most two lists, with different labels."""
    for argument, control in controls.items():
        if not isinstance(control, Control):
            raise TypeError(
                f"{argument}: {control!r} is not a control; allowed: choice(), powers(), values()"
            )
    sliders = sum(not control.is_select for control in controls.values())
    selects = len(controls) - sliders
    if not controls or sliders > MOST_SLIDERS or selects > MOST_SELECTS:
        raise ValueError(
            f"controls: {sliders} sliders and {selects} lists; allowed are at least one control, "
            f"at most {MOST_SLIDERS} sliders and {MOST_SELECTS} lists"
        )
    labels = [control.label for control in controls.values()]
    if len(set(labels)) < len(labels):
        raise ValueError(f"controls: two have the same label: {labels}")


def all_positions(
    controls: Mapping[str, Control], most: int | None = None
) -> Iterator[dict[str, int]]:
    """Yield every combination of stops, or a repeatable sample of at most ``most``.

    A sample holds the start, each end of each control, and then random combinations.
    """
    sizes = [len(control.stops) for control in controls.values()]
    if most is None or math.prod(sizes) <= most:
        combinations = itertools.product(*map(range, sizes))
    else:
        start = tuple(control.start for control in controls.values())
        chosen = {start: None}  # a dict keeps the order and drops repeats
        for i, size in enumerate(sizes):
            for end in (0, size - 1):
                chosen[(*start[:i], end, *start[i + 1 :])] = None
        pick = random.Random(0)
        while len(chosen) < most:
            chosen[tuple(pick.randrange(size) for size in sizes)] = None
        combinations = list(chosen)[:most]
    for combination in combinations:
        yield dict(zip(controls, combination, strict=True))


def _in_binary_thousands(value: int) -> str:
    return f"{value // 1024}K" if value >= 1024 and value % 1024 == 0 else f"{value:g}"


def _text(label: str) -> str:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label: {label!r} is not a non-empty text")
    return label


def _number(label: str, argument: str, value: Any) -> float | int:
    """Return a finite number as Python's own int or float, without a unit's subclass."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{label}: {argument}: {value!r} is not a finite number")
    if isinstance(value, int) and abs(value) >= EXACT_INTEGER_LIMIT:
        raise ValueError(f"{label}: {argument}: {value!r} is not exact in JavaScript; use a float")
    return int(value) if isinstance(value, int) else float(value)


def _row(label: str, name: str, row: Any) -> Any:
    if not isinstance(row, Mapping):
        return _number(label, name, row)
    for field in row:
        if not str(field).isidentifier():
            raise ValueError(f"{label}: {name}: the field {field!r} is not an identifier")
    numbers = {
        field: value if isinstance(value, str) else _number(label, f"{name}.{field}", value)
        for field, value in row.items()
    }
    return {"name": name, **numbers}
