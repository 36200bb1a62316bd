"""One browser and one server for all tests of the site."""

import os
import shutil

import pytest

from gates.browser import BUILT, Chromium, Site


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


#: a bare page, for a component alone
HEAD = '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><body>'


@pytest.fixture
def show(chromium):
    """Show HTML in a fresh page with the network cut, and return it and its errors."""
    contexts = []

    def open_page(body, width=1280, **options):
        context = chromium.browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_content(HEAD + body)
        return page, errors

    yield open_page
    for context in contexts:
        context.close()
