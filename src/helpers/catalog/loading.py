"""Read the data files and hand out records.

Nothing is read at import time. Each folder is read once, on first use, and every fault ends in
one message that names the file, the field, the value, what is allowed and how to mend it.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from helpers.catalog.records import (
    CatalogError,
    Chip,
    Claim,
    Model,
    NotInCatalog,
    Record,
    Source,
    Term,
    Trap,
)

DATA = Path(__file__).parent / "data"

R = TypeVar("R", bound=Record)

#: fields that a file's ``defaults`` may set for all its figures
_DEFAULTS = ("source", "where", "date", "certainty", "scope")
_FIGURE_FIELDS = ("capacity", "bandwidth", "power", "one_way", "both_ways",
                  "parameters", "active_parameters", "kv_per_token", "published_parameters",
                  "published_active_parameters")  # fmt: skip
_FIGURE_LISTS = ("peaks", "on_chip", "others")


# --- reading YAML -------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe YAML that refuses a key that stands twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _named(path: Path) -> str:
    """A path as a message shows it: from the package's data folder on, if it lies there."""
    try:
        return str(path.relative_to(DATA.parents[2]))
    except ValueError:
        return str(path)


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Any
        What it holds.

    Raises
    ------
    CatalogError
        If it is missing, unreadable, not YAML, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            return yaml.load(file, Loader=_Loader)
    except FileNotFoundError:
        raise CatalogError(
            f"{_named(path)}: the file is missing; restore it, or reinstall the package"
        ) from None
    except OSError as error:
        raise CatalogError(f"{_named(path)}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise CatalogError(
            f"{_named(path)}{line}: {problem}; mend the line (indent with spaces, quote texts"
            " that hold ': ' or '#')"
        ) from None


# --- from data to records -----------------------------------------------------------------


def _fault(path: Path, error: ValidationError, data: Any) -> CatalogError:
    """One message for the first fault pydantic found.

    An unknown field comes before the rest: it is often the misspelling of a missing one.
    """
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    where = ""
    value = first.get("input")
    for step in first["loc"]:
        where += f"[{step}]" if isinstance(step, int) else (f".{step}" if where else str(step))
    kind, text = first["type"], first["msg"].removeprefix("Value error, ")
    context = first.get("ctx", {})
    if kind == "extra_forbidden":
        missing = [str(e["loc"][-1]) for e in error.errors() if e["type"] == "missing"]
        hint = f"; {', '.join(missing)} is missing" if missing else ""
        message = f"{where}: is not a field here; remove it or correct its spelling{hint}"
    elif kind == "missing":
        message = f"{where}: is missing; add it"
    elif kind == "literal_error":
        message = f"{where}: {value!r} is not allowed; use {context['expected']}"
    elif kind == "value_error":
        message = f"{where + ': ' if where else ''}{text}"
    else:
        message = f"{where}: {value!r} is wrong: {text[0].lower() + text[1:]}"
    more = len(error.errors()) - 1
    tail = f" ({more} more fault{'s' if more > 1 else ''} in this file)" if more else ""
    return CatalogError(f"{_named(path)}: {message}{tail}")


def _with_defaults(data: Any, defaults: dict[str, Any]) -> Any:
    """Spread a file's ``defaults`` over its figures; a figure's own fields win."""
    if isinstance(data, list):
        return [_with_defaults(item, defaults) for item in data]
    if not isinstance(data, dict):
        return data
    spread = {}
    for field, value in data.items():
        if field in _FIGURE_FIELDS and isinstance(value, dict):
            spread[field] = {**defaults, **value}
        elif field in _FIGURE_LISTS and isinstance(value, list):
            spread[field] = [
                {**defaults, **item} if isinstance(item, dict) else item for item in value
            ]
        else:
            spread[field] = _with_defaults(value, defaults)
    return spread


def _expand_peaks(data: dict, path: Path) -> dict:
    """``dtypes: [bf16, fp16]`` stands for two peaks that share a figure."""
    peaks = data.get("peaks")
    if not isinstance(peaks, list):
        return data
    expanded = []
    for index, peak in enumerate(peaks):
        if isinstance(peak, dict) and "dtypes" in peak:
            dtypes = peak["dtypes"]
            if not isinstance(dtypes, list) or "dtype" in peak:
                raise CatalogError(
                    f"{_named(path)}: peaks[{index}].dtypes: {dtypes!r} must be a list such as"
                    " [bf16, fp16], without a dtype beside it"
                )
            rest = {k: v for k, v in peak.items() if k != "dtypes"}
            expanded += [{"dtype": dtype, **rest} for dtype in dtypes]
        else:
            expanded.append(peak)
    return {**data, "peaks": expanded}


def build(record: type[R], data: Any, path: Path) -> R:
    """Make a record from the contents of a data file.

    Parameters
    ----------
    record : type
        The record's class.
    data : dict
        The file's contents; ``defaults`` is spread over its figures.
    path : Path
        For messages.

    Returns
    -------
    Record

    Raises
    ------
    CatalogError
        At the first fault, naming file, field, value and what is allowed.
    """
    if not isinstance(data, dict):
        raise CatalogError(f"{_named(path)}: holds no fields; write 'name: value' lines")
    data = dict(data)
    defaults = data.pop("defaults", {}) or {}
    unknown = sorted(set(defaults) - set(_DEFAULTS)) if isinstance(defaults, dict) else ["defaults"]
    if unknown:
        raise CatalogError(
            f"{_named(path)}: defaults.{unknown[0]}: is not a field here;"
            f" use {', '.join(_DEFAULTS)}"
        )
    if record is Chip:
        data = _expand_peaks(data, path)
    data = _with_defaults(data, defaults)
    try:
        return record.model_validate(data)
    except ValidationError as error:
        raise _fault(path, error, data) from None


def load_folder(record: type[R], folder: Path) -> dict[str, R]:
    """Read a folder of one-record files (or files that hold a list of records).

    Parameters
    ----------
    record : type
        The records' class; it has an ``id``.
    folder : Path
        Where the ``.yaml`` files lie.

    Returns
    -------
    dict
        id -> record, sorted by id.

    Raises
    ------
    CatalogError
        If a file is faulty, an id differs from its file name, or stands twice.
    """
    found: dict[str, R] = {}
    for path in sorted(folder.glob("*.yaml")):
        data = read_yaml(path)
        for item in data if isinstance(data, list) else [data]:
            made = build(record, item, path)
            if not isinstance(data, list) and made.id != path.stem:
                raise CatalogError(
                    f"{_named(path)}: id: {made.id!r} differs from the file's name;"
                    f" name the file {made.id}.yaml"
                )
            if made.id in found:
                raise CatalogError(f"{_named(path)}: id: {made.id!r} stands twice in {folder.name}")
            found[made.id] = made
    return dict(sorted(found.items()))


def load_list(record: type[R], path: Path, key: str) -> dict[str, R]:
    """Read one file that holds a list of records, keyed by the field ``key``."""
    data = read_yaml(path)
    if not isinstance(data, list):
        raise CatalogError(f"{_named(path)}: must hold a list; begin each record with '- '")
    found: dict[str, R] = {}
    for item in data:
        label = item.get(key) if isinstance(item, dict) else None
        try:
            made = build(record, item, path)
        except CatalogError as error:
            raise CatalogError(f"{error} [{key}: {label!r}]") from None
        name = getattr(made, key)
        if name in found:
            raise CatalogError(f"{_named(path)}: {key}: {name!r} stands twice; remove one")
        found[name] = made
    return found


# --- finding by name ----------------------------------------------------------------------


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.strip().lower()).strip("-")


def _names(records: dict[str, Any]) -> dict[str, str]:
    """Every accepted spelling -> id; a spelling that two records share is an error."""
    table: dict[str, str] = {}
    for identifier, record in records.items():
        spellings = (identifier, record.name, getattr(record, "short", ""), *record.aliases)
        for spelling in {_fold(s) for s in spellings if s}:
            other = table.setdefault(spelling, identifier)
            if other != identifier:
                raise CatalogError(
                    f"alias {spelling!r} belongs to both {other} and {identifier};"
                    " remove it from one of the two files"
                )
    return table


def _near(folded: str, names: Iterable[str]) -> list[str]:
    """Spellings near a name, best first: about as near as the best, with its letter if any has it.

    Without the two limits H1000 is near R100, an alias of Rubin: three of four characters agree.
    """
    close = difflib.get_close_matches(folded, names, n=20, cutoff=0.5)
    ratios = {n: difflib.SequenceMatcher(None, n, folded).ratio() for n in close}
    close = [n for n in close if ratios[n] >= max(ratios.values()) - 0.2]
    return [n for n in close if n[0] == folded[0]] or close


def _find(name: str, records: dict[str, R], names: dict[str, str], what: str) -> R:
    if not isinstance(name, str):
        raise CatalogError(f"{what}: {name!r} is not a name; give a string such as an id")
    folded = _fold(name)
    if folded in names:
        return records[names[folded]]
    near = list(dict.fromkeys(names[n] for n in _near(folded, names)))[:3]
    if near:
        raise NotInCatalog(f"{what}: {name!r} is not in the catalog; nearest: {', '.join(near)}")
    raise NotInCatalog(f"{what}: {name!r} is not in the catalog; it has {', '.join(records)}")


def _check_sources(path: str, keys: Iterable[str]) -> None:
    known = _sources()
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise CatalogError(
                f"{path}: source: {key!r} is not in helpers/catalog/data/sources.yaml{hint};"
                " correct the key or add the source"
            )


@functools.cache
def _sources() -> dict[str, Source]:
    return dict(sorted(load_list(Source, DATA / "sources.yaml", "key").items()))


@functools.cache
def _traps() -> dict[str, Trap]:
    found = load_list(Trap, DATA / "traps.yaml", "id")
    for trap in found.values():
        _check_sources(f"helpers/catalog/data/traps.yaml: {trap.id}", trap.sources)
    return found


@functools.cache
def _chips() -> tuple[dict[str, Chip], dict[str, str]]:
    found = load_folder(Chip, DATA / "chips")
    for chip_ in found.values():
        path = f"helpers/catalog/data/chips/{chip_.id}.yaml"
        _check_sources(path, (figure.source for _, figure in chip_.figures()))
        for trap in chip_.traps:
            if trap not in _traps():
                raise CatalogError(
                    f"{path}: traps: {trap!r} is not in traps.yaml; use {', '.join(_traps())}"
                )
    return found, _names(found)


@functools.cache
def _models() -> tuple[dict[str, Model], dict[str, str]]:
    found = load_folder(Model, DATA / "models")
    for model_ in found.values():
        path = f"helpers/catalog/data/models/{model_.id}.yaml"
        expected = [getattr(model_.expected, field) for field in type(model_.expected).model_fields]
        _check_sources(path, [model_.source, *(f.source for f in expected if f)])
    return found, _names(found)


@functools.cache
def _claims() -> dict[str, Claim]:
    found = load_folder(Claim, DATA / "claims")
    for claim_ in found.values():
        _check_sources(f"helpers/catalog/data/claims: {claim_.id}", claim_.sources)
    return found


@functools.cache
def _glossary() -> dict[str, Term]:
    found = load_list(Term, DATA / "glossary.yaml", "term")
    for term_ in found.values():
        for other in term_.see_also:
            if other not in found:
                raise CatalogError(
                    f"helpers/catalog/data/glossary.yaml: {term_.term}: see_also: {other!r}"
                    " is not a term; correct it or add the term"
                )
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def reload() -> None:
    """Forget what was read, so that edited data files are read again."""
    for cached in (_sources, _traps, _chips, _models, _claims, _glossary):
        cached.cache_clear()


def chip(name: str) -> Chip:
    """Look a chip up by id, name or alias.

    Parameters
    ----------
    name : str
        Such as ``"h100-sxm"``, ``"H100"`` or ``"NVIDIA H100 SXM"``.

    Returns
    -------
    Chip

    Raises
    ------
    NotInCatalog
        If there is none; the message names the nearest.

    Examples
    --------
    >>> chip("H100").id
    'h100-sxm'
    >>> print(chip("h100-sxm").bandwidth)
    3.35 TB/s
    """
    records, names = _chips()
    return _find(name, records, names, "chip")


def chips(*, kind: str | None = None, vendor: str | None = None) -> tuple[Chip, ...]:
    """All chips, by id, or those of one kind or vendor.

    Examples
    --------
    >>> [c.id for c in chips(vendor="Google")][:2]
    ['tpu-v4', 'tpu-v5e']
    """
    found = tuple(_chips()[0].values())
    for field, wanted in (("kind", kind), ("vendor", vendor)):
        if wanted is not None:
            have = sorted({getattr(c, field) for c in found})
            if wanted not in have:
                raise NotInCatalog(f"{field}: {wanted!r}; the catalog has {', '.join(have)}")
            found = tuple(c for c in found if getattr(c, field) == wanted)
    return found


def model(name: str) -> Model:
    """Look a model up by id, name or alias.

    Examples
    --------
    >>> model("llama-3.1-8b").kv_heads
    8
    """
    records, names = _models()
    return _find(name, records, names, "model")


def models() -> tuple[Model, ...]:
    """All models, by id."""
    return tuple(_models()[0].values())


def source(key: str) -> Source:
    """Look a source up by its key.

    Examples
    --------
    >>> source("williams-2009").year
    2009
    """
    known = _sources()
    if key in known:
        return known[key]
    near = ", ".join(difflib.get_close_matches(str(key), known, n=3)) or "see sources.yaml"
    raise NotInCatalog(f"source: {key!r} is not in the catalog; nearest: {near}")


def sources() -> tuple[Source, ...]:
    """All sources, by key."""
    return tuple(_sources().values())


def claim(identifier: str) -> Claim:
    """Look a claim up by id."""
    known = _claims()
    if identifier in known:
        return known[identifier]
    near = ", ".join(difflib.get_close_matches(str(identifier), known, n=3)) or ", ".join(known)
    raise NotInCatalog(f"claim: {identifier!r} is not in the catalog; nearest: {near}")


def claims(*, chapter: str | None = None) -> tuple[Claim, ...]:
    """All claims by id, or those of one chapter."""
    return tuple(c for c in _claims().values() if chapter in (None, c.chapter))


def glossary() -> tuple[Term, ...]:
    """All glossary terms in alphabetical order."""
    return tuple(_glossary().values())


def traps() -> tuple[Trap, ...]:
    """The ways in which spec sheets mislead."""
    return tuple(_traps().values())


_READERS: dict[str, Callable[[], Any]] = {
    "sources": _sources, "traps": _traps, "chips": _chips, "models": _models,
    "claims": _claims, "glossary": _glossary,
}  # fmt: skip


def check() -> None:
    """Read every data file; raises ``CatalogError`` at the first fault.

    Examples
    --------
    >>> check()
    """
    for read in _READERS.values():
        read()
