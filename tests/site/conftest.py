"""One browser and one server for all tests of the site."""

import os
import shutil

import pytest

from gates.browser import Chromium, Site
from gates.core import ROOT

BUILT = ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def chromium():
    try:
        browser = Chromium()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def site(chromium, tmp_path_factory):
    if not (BUILT / "index.html").is_file():
        pytest.fail(f"{BUILT}: no built site; run `make site` first")
    # a copy: a build beside the tests does not pull pages from under them
    tested = tmp_path_factory.mktemp("site") / "html"
    shutil.copytree(BUILT, tested)
    with Site(tested, chromium) as served:
        yield served
    shutil.rmtree(tested)
