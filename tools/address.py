"""The book's public address: it stands in `_config.yml`, and everything else follows.

python tools/address.py                 print it
python tools/address.py URL             change it, in all that is generated from it
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "_config.yml"
_LINE = re.compile(r"^(repository:\n\s+url:\s*)(\S+)", re.MULTILINE)
_VALID = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+")

#: prose that names the address: generated lines in files written by hand
FILES = ("README.md", "CONTRIBUTING.md", "index.md", "chapters/how-to-use.md", "pyproject.toml")


def repository_address() -> str:
    """The address that `_config.yml` gives.

    Raises
    ------
    ValueError
        If the file has no line for it.
    """
    found = _LINE.search(CONFIG.read_text("utf-8"))
    if not found:
        raise ValueError(f"{CONFIG.name}: no `repository:` with a `url:` on its next line")
    return found[2]


def _forms(address: str) -> list[str]:
    """The ways in which an address is written: on GitHub, in Colab, and on Pages."""
    owner, name = address.removeprefix("https://github.com/").split("/")
    return [f"github.com/{owner}/{name}", f"github/{owner}/{name}", f"{owner}.github.io/{name}"]


def change(new: str) -> list[str]:
    """Write the new address everywhere; returns the files that changed.

    Raises
    ------
    ValueError
        If ``new`` is not the address of a repository on GitHub.
    """
    new = new.rstrip("/").removesuffix(".git")
    if not _VALID.fullmatch(new):
        raise ValueError(f"URL: {new!r} is not of the form https://github.com/OWNER/NAME")
    old = repository_address()
    changed = []
    for name in ("_config.yml", *FILES):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_text("utf-8")
        fresh = text
        for before, after in zip(_forms(old), _forms(new), strict=True):
            fresh = fresh.replace(before, after)
        if fresh != text:
            path.write_text(fresh, "utf-8")
            changed.append(name)
    return changed


def main() -> int:
    if len(sys.argv) == 1:
        print(repository_address())
        return 0
    try:
        changed = change(sys.argv[1])
    except ValueError as error:
        print(f"address: {error}", file=sys.stderr)
        return 2
    for name in changed:
        print(f"address: changed {name}")
    return subprocess.call([sys.executable, str(ROOT / "tools" / "notebooks.py"), "stamp"])


if __name__ == "__main__":
    sys.exit(main())
