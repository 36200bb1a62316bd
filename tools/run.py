"""The steps behind `make`: each says what it does, how long it took, and what to do if it fails.

Runs on any Python 3, with nothing installed; what a step needs is put into `.venv` first.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "make: this is Python %d.%d; the book needs 3.11, 3.12 or 3.13 "
        "(name one: make PYTHON=python3.12 ...)" % sys.version_info[:2]
    )

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from measuring import MEASURING

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
SITE = ROOT / "_build" / "html"
STAGE = ROOT / "_build" / "stage"

#: name -> (requirements, what the download weighs)
ENVIRONMENTS = {
    "book": (["requirements-book.txt"], "about 55 MB"),
    "all": (["requirements.txt"], "about 450 MB with a CPU build of PyTorch"),
}
CUDA_WARNING = (
    "      On Linux the default PyTorch brings CUDA libraries of several GB. For the CPU build,\n"
    "      first run the command of https://pytorch.org/get-started/locally/ (Linux, Pip, CPU)\n"
    "      with .venv/bin/pip, then this again."
)


class Failed(Exception):
    """A step that did not succeed; the message says which file and what to do."""


def say(text: str) -> None:
    print(f"make: {text}", flush=True)


@contextmanager
def step(what: str):
    """Announce a step and say how long it took."""
    say(f"{what} ...")
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    TIMES.append((what, seconds))
    say(f"{what}: {seconds:.1f} s")


TIMES: list[tuple[str, float]] = []


def call(*command, check: bool = True, env: dict | None = None, **options) -> int:
    """Run a command in the repository's root; a failure ends the step."""
    full = {**os.environ, **(env or {})}
    full.pop("PYTHONHOME", None)
    code = subprocess.call([str(part) for part in command], cwd=ROOT, env=full, **options)
    if code and check:
        raise Failed(f"`{' '.join(str(part) for part in command[:6])}` ended with {code}")
    return code


# ---- environment -------------------------------------------------------------------------------


def _fingerprint(files: list[str]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for name in [*files, "requirements-book.txt", "pyproject.toml"]:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _torch_is_there() -> bool:
    return bool(list(VENV.glob("lib/python*/site-packages/torch/__init__.py")))


def ensure_environment(name: str) -> None:
    """Create `.venv` and install what ``name`` needs, unless that is done already."""
    files, size = ENVIRONMENTS[name]
    stamps = [VENV / f".installed-{known}" for known in ("all", name)]
    wanted = {"all": _fingerprint(ENVIRONMENTS["all"][0]), name: _fingerprint(files)}
    for stamp, known in zip(stamps, ("all", name), strict=True):
        if stamp.is_file() and stamp.read_text() == wanted[known]:
            return
    if not os.access(ROOT, os.W_OK):
        raise Failed(f"{ROOT}: this folder cannot be written; clone the book to one that can")
    with step(f"install what `{name}` needs into .venv ({size})"):
        if name == "all" and platform.system() == "Linux" and not _torch_is_there():
            print(CUDA_WARNING, flush=True)
        if not PYTHON.exists():
            try:
                import venv

                venv.create(VENV, with_pip=True, clear=VENV.exists())
            except Exception as error:
                raise Failed(
                    f"cannot create {VENV.name} ({error}); on Debian and Ubuntu: "
                    "apt-get install python3-venv"
                ) from error
        quiet = ["-qq", "--disable-pip-version-check"]
        requirements = [part for file in files for part in ("-r", file)]
        try:
            call(PYTHON, "-m", "pip", "install", *quiet, *requirements)
            call(
                PYTHON,
                "-m",
                "pip",
                "install",
                *quiet,
                "--no-deps",
                "--no-build-isolation",
                "-e",
                ".",
            )
        except Failed as error:
            raise Failed(f"{error}; is the network reachable? Nothing else was changed") from error
        (VENV / f".installed-{name}").write_text(wanted[name])


# ---- the site ----------------------------------------------------------------------------------


def check_data() -> None:
    """Read every data file; a wrong value ends here, with its file and field."""
    call(PYTHON, "-m", "helpers.catalog")
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        name = path.relative_to(ROOT)
        try:
            cells = json.loads(path.read_text("utf-8"))["cells"]
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(
                f"{name}: not a whole notebook ({error}); get it back: git checkout -- {name}"
            ) from error
        if not cells:
            raise Failed(f"{name}: has no cells; get it back: git checkout -- {name}")


def check_questions() -> None:
    """The same for the questions, whose answers need the library's formulas."""
    call(PYTHON, "-m", "helpers.book.quiz", stdout=subprocess.DEVNULL)


def build_site() -> None:
    """Build strictly beside the site that is there, and replace it only when all is well."""
    with step("check the data files"):
        check_data()
    with step("build the site"):
        STAGE.mkdir(parents=True, exist_ok=True)
        log = ROOT / "_build" / "build.log"
        with open(log, "w", encoding="utf-8") as stream:
            code = call(
                VENV / "bin" / "jupyter-book",
                "build",
                ".",
                "--path-output",
                STAGE,
                "-W",
                "-n",
                "--keep-going",
                "-q",
                check=False,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={"NO_COLOR": "1"},
            )
        if code:
            lines = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text("utf-8")).splitlines()
            faults = [
                line.replace(f"{ROOT}/", "")
                for line in lines
                if "WARNING" in line or "ERROR" in line
            ]
            print("\n".join(faults or lines[-30:]))
            raise Failed(
                "the site was not built; the lines above name file and line "
                "(all of it: _build/build.log). The site from before is untouched"
            )
        fresh, old = SITE.with_name("html.new"), SITE.with_name("html.old")
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        # a copy, not links: the next build writes into the stage, and must not reach the site
        shutil.copytree(STAGE / "_build" / "html", fresh)
        if SITE.exists():
            SITE.rename(old)
        fresh.rename(SITE)
        shutil.rmtree(old, ignore_errors=True)


def serve(port: int | None = None) -> None:
    call(PYTHON, "tools/serve.py", SITE, *(["--port", port] if port else []), check=False)


# ---- proofs ------------------------------------------------------------------------------------


def find_browser() -> str | None:
    """An installed Chromium or Chrome, or the one that Playwright keeps.

    Its headless shell first: the same engine without the windows around the pages, which cost
    nearly half of the processor's time in the site's tests.
    """
    names = [
        "chromium-headless-shell",
        "chrome-headless-shell",
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "chrome",
    ]
    places = [
        os.environ.get("CHROMIUM"),
        *map(shutil.which, names),
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ]
    cache = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    playwright = cache / "ms-playwright"
    places += sorted(playwright.glob("chromium_headless_shell-*/chrome-*/*headless[-_]shell"))
    places += sorted(playwright.glob("chromium-*/chrome-*/chrome"))
    return next((str(place) for place in places if place and Path(place).exists()), None)


def lint() -> None:
    with step("style and spelling"):
        call(PYTHON, "-m", "ruff", "check", ".")
        call(PYTHON, "-m", "codespell_lib")


def proofs(everything: bool) -> None:
    """Library, notebooks, text and site; every part runs even if an earlier one failed."""
    failures = []

    def part(what: str, *command, env: dict | None = None) -> None:
        with step(what):
            if call(*command, check=False, env=env):
                failures.append(what)

    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pytest = [PYTHON, "-m", "pytest", "-q"]
    chosen = [] if everything else ["-m", "not slow"]
    if everything:
        os.environ["MOVING_BYTES_EXPLORE"] = "1"  # new random examples, see tests/conftest.py
    try:
        lint()
    except Failed as error:
        failures.append(f"style and spelling ({error})")
    try:
        with step("check the questions"):
            check_questions()
    except Failed as error:
        failures.append(f"questions ({error})")
    part(
        "library",
        *pytest,
        "-n",
        "2",
        "--doctest-modules",
        "src/helpers",
        "tests/library",
        *chosen,
        env=one_thread,
    )
    part("text, data and gates", *pytest, "-n", "2", "tests/text", "tests/gates", *chosen)
    notebooks = sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    )
    nbval = [
        PYTHON,
        "-m",
        "pytest",
        "-q",
        "--nbval",
        "--nbval-cell-timeout=120",
        "-p",
        "no:cacheprovider",
    ]
    part(
        "notebooks",
        *nbval,
        "-n",
        "2",
        "--dist",
        "loadfile",
        *[path for path in notebooks if path not in MEASURING],
        env=one_thread,
    )
    part("the measuring notebooks, live and alone", *nbval, *MEASURING)
    part("stored notebooks", *pytest, "-n", "2", "tests/notebooks", *chosen)
    try:
        build_site()
    except Failed as error:
        failures.append(f"site build ({error})")
    browser = find_browser()
    if browser is None:
        advice = f"{PYTHON} -m playwright install chromium"
        message = (
            f"no Chromium or Chrome here: the site's tests did NOT run. Get one with: {advice}"
        )
        if os.environ.get("CI"):
            failures.append(message)
        else:
            say("*" * 70 + f"\n{message}\n" + "*" * 70)
    else:
        # side by side what only has to be right; alone and after it what is timed
        timed = "first-view or sliders"
        site = [*pytest, "tests/site", *chosen]
        both = ["-n", "2", "--dist", "worksteal", "-k", f"not ({timed})"]
        part("site in a browser", *site, *both, env={"CHROMIUM": browser})
        part("speed of the site", *site, "-k", timed, env={"CHROMIUM": browser})
    say("seconds by part:")
    for what, seconds in TIMES:
        print(f"  {seconds:7.1f}  {what}")
    print(f"  {sum(seconds for _, seconds in TIMES):7.1f}  in all")
    if failures:
        raise Failed("failed: " + "; ".join(failures))
    say("all proofs hold")


# ---- targets -----------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "target",
        choices=[
            "book",
            "site",
            "serve",
            "test",
            "test-all",
            "notebooks",
            "bench",
            "lint",
            "address",
            "clean",
        ],
    )
    parser.add_argument("--port", type=int)
    parser.add_argument("rest", nargs="*")
    options = parser.parse_args()
    started = time.perf_counter()
    try:
        if options.target in ("book", "site"):
            ensure_environment("book")
            build_site()
            say(f"the site is in _build/html, {time.perf_counter() - started:.1f} s in all")
            if options.target == "book" and not os.environ.get("CI"):
                serve(options.port)
        elif options.target == "serve":
            ensure_environment("book")
            serve(options.port)
        elif options.target in ("test", "test-all"):
            ensure_environment("all")
            proofs(everything=options.target == "test-all")
        elif options.target == "notebooks":
            ensure_environment("all")
            with step("check the questions"):
                check_questions()
            with step("run and store the notebooks"):
                call(PYTHON, "tools/notebooks.py", "run", *options.rest)
        elif options.target == "bench":
            ensure_environment("all")
            with step("measure the recorded runs anew"):
                call(PYTHON, "-m", "helpers.bench.record", *options.rest)
        elif options.target == "lint":
            ensure_environment("all")
            lint()
        elif options.target == "address":
            if not options.rest:
                raise Failed("name the address: make address URL=https://github.com/OWNER/NAME")
            ensure_environment("book")
            call(PYTHON, "tools/address.py", *options.rest)
        else:
            with step("remove what was built"):
                shutil.rmtree(ROOT / "_build", ignore_errors=True)
                for pattern in ("**/__pycache__", "**/.pytest_cache", ".ruff_cache", ".hypothesis"):
                    for path in ROOT.glob(pattern):
                        if VENV not in path.parents:
                            shutil.rmtree(path, ignore_errors=True)
    except Failed as error:
        print(f"make: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake: interrupted; nothing half-written is left behind", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
