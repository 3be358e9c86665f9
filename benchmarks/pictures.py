"""The pictures of the pages in docs/pictures, taken from reports/ in Chromium.

    python -m benchmarks.pictures           after `dvc repro`, in the project's folder

writes comparison.png, gate.png, curves.png, answers.png and data.png. Needs the test libraries of this repository, and
Debian's package `chromium`. (mlflow.png and version.png show MLflow's own UI, and are taken by hand.)
"""

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER, REPORTS = Path(__file__).parent.parent / "docs/pictures", Path("reports")
WIDTH, TALLEST = 1280, 1700
"""Of a picture, in CSS pixels."""


def draw_all(page: Page) -> None:
    """Scroll to every chart, so that all are drawn."""
    figures = page.locator("figure.vega")
    for number in range(figures.count()):
        figures.nth(number).scroll_into_view_if_needed()
        figures.nth(number).locator("svg").first.wait_for()
    page.evaluate("scrollTo(0, 0)")


def take(page: Page, name: str, first: str, after: str) -> None:
    """Write the part of a page from the element ``first`` up to the element ``after``."""
    top, bottom = (
        page.locator(selector).first.evaluate("e => e.getBoundingClientRect().top + scrollY")
        for selector in (first, after)
    )
    clip = {"x": 0, "y": top - 12, "width": WIDTH, "height": min(bottom - top, TALLEST)}
    page.screenshot(path=FOLDER / name, full_page=True, clip=clip)


def main() -> None:
    """Take all pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.goto((REPORTS / "comparison.html").resolve().as_uri())
        page.wait_for_selector("#samples[data-drawn]")
        draw_all(page)
        take(page, "gate.png", "h1", "#quality")
        take(page, "comparison.png", "#quality ~ figure", "#cost ~ h2")
        take(page, "curves.png", "#training", "#training ~ ul")
        page.select_option("#kind", "disagree")
        page.check("input[value=difference]")
        page.wait_for_selector("#left-answer del, #right-answer ins")
        take(page, "answers.png", "#answers", "#samples tbody tr:nth-child(6)")
        for file in sorted((REPORTS / "data").glob("*.html"))[:1]:
            page.goto(file.resolve().as_uri())
            draw_all(page)
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": TALLEST}
            page.screenshot(path=FOLDER / "data.png", full_page=True, clip=clip)
        browser.close()


if __name__ == "__main__":
    main()
