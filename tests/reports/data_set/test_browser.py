"""The pages of a data set and of a sweep in Chromium. `pytest -m browser`; Debian's package `chromium` has it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from reports.data_set.data_pages import ATTACK, GOOD, make
from tiny_model import make_tokenizer

from reports import sweeps_made
from tunesmith.reports import sweep_page

pytestmark = pytest.mark.browser
Name = Literal["data", "sweep"]
CHARTS: dict[Name, int] = {"data": 3, "sweep": 3}
"""Number of charts of each page."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        assert program, "chromium is missing: apt-get install chromium"
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Name, Path]:
    folder = tmp_path_factory.mktemp("pages")
    story = {"question": "Tell me of a fox, a hen and the long way to Bremen, in the winter", "answer": "Once. " * 9}
    talk = [{"role": role, "content": "word " * 300} for _ in range(3) for role in ("user", "assistant")]
    rows: list[Any] = [*GOOD, *GOOD[:4], story, {**story, "question": story["question"] + "time"}, {"messages": talk}]
    rows += [{"question": ATTACK + "w" * 5000, "answer": ATTACK}, {"question": "", "answer": ATTACK}, "{" + ATTACK]
    pages = {"data": folder / "data.html", "sweep": folder / "sweep.html"}
    pages["data"].write_text(make(rows, folder, make_tokenizer(), near_duplicates=0.6)[0])
    pages["sweep"].write_text(sweep_page.page(sweeps_made.report(sweeps_made.TRIALS)))
    return pages  # type: ignore[return-value]


def drawn(page: Page) -> int:
    """Scroll to every chart; return the number of those that are drawn."""
    figures = page.locator("figure.vega")
    for number in range(figures.count()):
        figures.nth(number).scroll_into_view_if_needed()
        figures.nth(number).locator("svg").first.wait_for()
    page.wait_for_function(f"document.querySelectorAll('figure.vega[data-drawn]').length === {figures.count()}")
    return figures.count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", ["data", "sweep"])
def test_a_page_is_accessible_fits_its_window_and_asks_for_nothing(
    browser: Browser, files: dict[Name, Path], name: Name, width: int, scheme: Literal["light", "dark"]
) -> None:
    size: ViewportSize = {"width": width, "height": 900}
    page = browser.new_page(viewport=size, color_scheme=scheme)
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.goto(files[name].as_uri())
    assert drawn(page) == CHARTS[name]
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    findings = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in findings] == []
    assert (requests, errors) == ([files[name].as_uri()], [])
    assert page.locator("img").count() == 0
    page.close()


def test_rows_open_by_keyboard_and_scroll_by_it(browser: Browser, files: dict[Name, Path]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(files["data"].as_uri())
    closed = page.locator("details.row:not([open]) > summary")
    before = closed.count()
    closed.first.focus()
    page.keyboard.press("Enter")
    assert closed.count() == before - 1
    text = page.locator("details.row[open] .text").last
    text.focus()
    assert text.evaluate("element => element === document.activeElement")
    page.close()
