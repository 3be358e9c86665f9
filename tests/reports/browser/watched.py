"""A page in Chromium."""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize

DESKTOP, PHONE, SMALL_PHONE = 1280, 390, 360
"""Widths of windows."""
Scheme = Literal["light", "dark"]


class Watched:
    """A page that was opened, with all that it asked for and complained of."""

    def __init__(self, browser: Browser, file: Path, width: int = DESKTOP, scheme: Scheme = "light") -> None:
        size: ViewportSize = {"width": width, "height": 900}
        self.page: Page = browser.new_page(viewport=size, color_scheme=scheme)
        self.page.set_default_timeout(10_000)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#samples[data-drawn]")

    def draw_all(self) -> int:
        """Scroll to every chart; return the number of those that are drawn."""
        figures = self.page.locator("figure.vega")
        for number in range(figures.count()):
            figures.nth(number).scroll_into_view_if_needed()
            figures.nth(number).locator("svg").first.wait_for()
        return self.page.locator("figure.vega[data-drawn] svg path[d]").count() and figures.count()
