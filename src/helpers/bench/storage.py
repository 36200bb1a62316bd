"""Keep a machine card between sessions: a JSON file in the user's cache folder.

Where nothing can be written (a read-only home, a container without one) the card stays in memory
for as long as Python runs, and the message says so.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ValidationError

from helpers.bench.environment import current_environment
from helpers.bench.machine import MachineCard

#: days after which a card is called old
OLD_AFTER_DAYS = 90

_IN_MEMORY: dict[str, MachineCard] = {}


class CardFileError(ValueError):
    """A file that is not what it should be; the message names the file and the first fault."""


@dataclass(frozen=True)
class Found:
    """What :func:`load_card` found: a card or none, and one line that says which and how old."""

    card: MachineCard | None
    message: str


def cache_folder() -> Path | None:
    """Where this user's caches belong, or None where there is no home.

    Returns
    -------
    Path or None
        ``$XDG_CACHE_HOME/moving-bytes``, on macOS ``~/Library/Caches/moving-bytes``, else
        ``~/.cache/moving-bytes``. Not created.
    """
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "moving-bytes"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "moving-bytes"
    return home / ".cache" / "moving-bytes"


def card_path(device: str = "cpu") -> Path | None:
    """File of the card of this user's machine.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        Which card.
    """
    folder = cache_folder()
    return folder / f"machine-card-{device}.json" if folder else None


def write_json(path: Path, record: BaseModel) -> None:
    """Write a record to a file whole or not at all.

    Parameters
    ----------
    path : Path
        Target file; its folder is made if need be.
    record : pydantic.BaseModel
        What to write.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = _compact_json(record)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)  # atomic: a reader sees the old file or the new one
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _compact_json(record: BaseModel) -> str:
    """JSON with one list entry a line at the outer levels: short, and a diff shows what moved."""

    def dump(value, depth: int) -> str:
        pad, inner = "  " * depth, "  " * (depth + 1)
        if isinstance(value, dict) and depth < 1:
            items = (f"{inner}{json.dumps(k)}: {dump(v, depth + 1)}" for k, v in value.items())
            return "{\n" + ",\n".join(items) + f"\n{pad}}}"
        if isinstance(value, dict | list) and value and depth == 1:
            if isinstance(value, dict):
                items = [f"{inner}{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
                return "{\n" + ",\n".join(items) + f"\n{pad}}}"
            items = [inner + json.dumps(v) for v in value]
            return "[\n" + ",\n".join(items) + f"\n{pad}]"
        return json.dumps(value, ensure_ascii=False)

    return dump(record.model_dump(mode="json", exclude_defaults=False), 0) + "\n"


def read_json(path: Path, model: type[BaseModel], *, fix: str) -> BaseModel:
    """Read a record and check it.

    Parameters
    ----------
    path : Path
        The file.
    model : type
        What it should hold.
    fix : str
        What to do about a broken file, for the message.

    Returns
    -------
    pydantic.BaseModel
        An instance of ``model``.

    Raises
    ------
    CardFileError
        If the file is not JSON or a value is wrong; names file, field and fault.
    FileNotFoundError
        If there is no such file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CardFileError(f"{path}: not JSON ({error}). {fix}") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the record"
        given = first.get("input")
        shown = "" if isinstance(given, dict | list | tuple) else f" (found {given!r})"
        raise CardFileError(f"{path}: {where}: {first['msg']}{shown}. {fix}") from None


def save_card(card: MachineCard) -> str:
    """Save a card for later sessions.

    Parameters
    ----------
    card : MachineCard
        What to save.

    Returns
    -------
    str
        One line that says where it went: a file, or only memory.
    """
    _IN_MEMORY[card.device] = card
    path = card_path(card.device)
    if path is None:
        return "There is no home folder: the card is kept in memory until Python ends."
    try:
        write_json(path, card)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return (
            f"{path.parent} cannot be written ({reason}):"
            " the card is kept in memory until Python ends."
        )
    return f"Saved as {path}"


def load_card(device: str = "cpu", *, today: date | None = None) -> Found:
    """The saved card of this machine, if there is one that fits.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        Which card.
    today : date, optional
        For the age; the present day by default.

    Returns
    -------
    Found
        The card, or None with the reason: none saved, another machine's, or a broken file.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not one of cpu, cuda")
    card = _IN_MEMORY.get(device)
    if card is None:
        path = card_path(device)
        if path is None:
            return Found(None, "No card saved: there is no home folder.")
        try:
            card = read_json(path, MachineCard, fix="Delete it and run the probe again.")
        except OSError:
            return Found(None, "No card saved yet: run the probe.")
        except CardFileError as error:
            return Found(None, str(error))
    here = current_environment()
    if device == "cpu":
        here = here.model_copy(update={"gpu": "", "gpu_driver": ""})
    if not card.environment.same_hardware(here):
        return Found(
            None,
            f"The saved card is of another machine ({card.label}; this is {here.label}):"
            " run the probe.",
        )
    age = ((today or date.today()) - card.created).days
    told = "measured today" if age <= 0 else f"measured {age} day{'s' * (age > 1)} ago"
    if age > OLD_AFTER_DAYS:
        told += "; drivers and libraries change, so run the probe again"
    return Found(card, f"Card of this machine, {told}.")
