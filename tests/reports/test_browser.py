"""The page in Chromium: what only a browser can tell. `pytest -m browser`; Debian's package `chromium` has it."""

import html
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from reports import long_page

pytestmark = pytest.mark.browser
DESKTOP, PHONE, SMALL_PHONE = 1280, 390, 360
"""Widths of windows."""
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        assert program, "chromium is missing: apt-get install chromium"
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(long_page.page())
    return path


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_axe_finds_nothing_serious(browser: Browser, file: Path, width: int, scheme: Scheme) -> None:
    watched = Watched(browser, file, width, scheme)
    assert watched.draw_all() > 8
    watched.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    findings = Axe().run(watched.page).response["violations"]
    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in findings
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    watched.page.close()


@pytest.mark.parametrize("width", [DESKTOP, PHONE, SMALL_PHONE])
def test_a_page_fits_its_window_asks_for_nothing_and_reports_no_error(browser: Browser, file: Path, width: int) -> None:
    watched = Watched(browser, file, width)
    watched.draw_all()
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width
    assert (watched.requests, watched.errors) == ([file.as_uri()], [])
    watched.page.close()


def test_charts_are_drawn_in_the_colours_of_the_scheme_and_again_when_it_changes(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.draw_all()
    point = watched.page.locator("figure.vega").first.locator(".mark-symbol path").last
    assert point.get_attribute("fill") == "#2f5fd0"
    watched.page.emulate_media(color_scheme="dark")
    watched.page.wait_for_function(
        "() => document.querySelector('figure.vega .mark-symbol path:last-child').getAttribute('fill') === '#86a8ff'"
    )
    watched.page.close()


def test_every_model_on_a_cost_chart_has_a_label_that_covers_no_other(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.draw_all()
    chart = watched.page.locator("figure.vega").nth(1)
    shown = chart.locator(".labels text").evaluate_all(
        """nodes => nodes.filter(node => node.getAttribute('opacity') !== '0')
                   .map(node => [node.textContent, node.getBoundingClientRect()])"""
    )
    assert len(shown) == 7
    boxes = [(box["left"], box["top"], box["right"], box["bottom"]) for _, box in shown]
    for place, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[place + 1 :]:
            assert other[2] <= left or right <= other[0] or other[3] <= top + 2 or bottom <= other[1] + 2
    watched.page.close()


def test_a_score_stands_level_with_the_name_of_its_model(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.draw_all()
    middle = "nodes => nodes.map(node => node.getBoundingClientRect()).map(box => (box.top + box.bottom) / 2)"
    chart = watched.page.locator("figure.vega").first
    names = chart.locator(".role-axis-label text", has_text="s").evaluate_all(middle)[:8]
    points = chart.locator(".mark-symbol path").evaluate_all(middle)
    assert len(points) == 8
    levels = chart.locator(".mark-rule.role-mark line").evaluate_all(middle)
    assert levels == pytest.approx(points, abs=1)
    assert set(map(round, names)) <= {round(point) + offset for point in points for offset in (-3, -2, -1, 0, 1, 2, 3)}
    watched.page.close()


def test_hovering_over_a_curve_shows_its_value(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.draw_all()
    figure = watched.page.locator(".training figure").first
    figure.scroll_into_view_if_needed()
    figure.locator("svg").hover()
    watched.page.wait_for_selector("#vg-tooltip-element.visible")
    assert "step" in watched.page.inner_text("#vg-tooltip-element")
    watched.page.close()


def test_models_can_be_taken_out_of_the_training_charts(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.draw_all()
    lines = watched.page.locator(".training figure").first.locator(".mark-line path")
    before = lines.count()
    watched.page.click("#curves-none")
    watched.page.locator("input.toggle").first.check()
    left = "document.querySelectorAll('.training figure:first-child .mark-line path').length"
    watched.page.wait_for_function(f"count => {left} < count", arg=before)
    assert 0 < lines.count() < before
    watched.page.close()


def test_the_row_view_works_by_keyboard(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    page = watched.page
    first = page.inner_text("#place")
    page.focus("#row")
    page.keyboard.press("j")
    page.wait_for_function("text => document.getElementById('place').textContent !== text", arg=first)
    assert page.inner_text("#place").startswith("2 of 60")
    page.focus("input[value=rendered]")
    page.keyboard.press("ArrowRight")  # which belongs to the choice of views here
    page.wait_for_selector("#right-answer ins")
    assert page.inner_text("#place").startswith("2 of 60")
    assert page.locator("#left-answer del").count() > 0
    page.focus("#row")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("text => document.getElementById('place').textContent === text", arg=first)
    page.focus("#next")
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('place').textContent.startsWith('2 of 60')")
    page.close()


def test_a_long_answer_is_shown_as_markdown_and_hostile_text_does_nothing(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    page = watched.page
    answer = page.locator("#left-answer")
    for element in ("ul li strong", "table td", "pre code", "blockquote"):
        page.locator("#next").click()
        while answer.locator(element).count() == 0:
            page.locator("#next").click()
            page.wait_for_timeout(20)
    assert "<img src=x onerror" in answer.inner_text()
    assert (
        page.locator("#left-answer img, #left-answer script, #left-answer a, #samples img, #samples script").count()
        == 0
    )
    assert page.title() == "Comparison on demo"
    page.close()


def test_reasoning_and_tool_calls_stand_apart_from_the_answer(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    page = watched.page
    page.fill("#search", "first add")
    page.wait_for_function("document.getElementById('place').textContent === '1 of 1: sums, 7'")
    assert page.inner_text("#left-answer summary") == "reasoning"
    assert page.locator("#left-answer details pre").text_content() == "first add"
    assert page.inner_text("#left-answer .markdown p:first-child") == "Let me see."
    assert page.inner_text("#left-answer .markdown pre") == '{"name": "add", "arguments": {"a": 1}}'
    page.close()


def test_a_difference_has_all_words_of_both_answers(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    parts: Any = watched.page.evaluate("""() => {
      const [first, second] = ["the quick  brown fox\\njumps", "a quick red fox\\njumps high ✓"];
      const parts = wordDiff(first, second);
      const joined = number => parts.map(part => part[number]).join("");
      const equal = parts.filter(part => part[2]).map(part => part[0]).join("");
      return [joined(0) === first, joined(1) === second, equal.includes("quick"), wordDiff("same", "same").length];
    }""")
    assert parts == [True, True, True, 1]
    seconds: Any = watched.page.evaluate("""() => {
      const began = performance.now();
      const long = count => Array.from({ length: count }, (_, n) => "w" + (n * 7919) % 50).join(" ");
      for (const [one, other] of [[20000, 19000], [900, 1000]]) wordDiff(long(one), long(other));
      for (const part of ["*", "**a", "[", "![a](", "`", "- ", "> ", "|", "_a", "~~", "# ", "\\n", " "])
        for (const end of ["", "x", "\\n|-|"]) Markdown.render(part.repeat(20000) + end);
      return (performance.now() - began) / 1000;
    }""")
    assert seconds < 10  # a pattern that backtracks takes minutes
    watched.page.close()


def test_filters_and_search_choose_prompts(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    page = watched.page
    page.select_option("#kind", "improved")
    page.wait_for_function("!document.getElementById('matching').textContent.startsWith('60 ')")
    assert 0 < int(page.inner_text("#matching").split(" ")[0]) < 60
    page.select_option("#kind", "all")
    page.fill("#search", "what is 17?")
    page.wait_for_function("document.getElementById('matching').textContent.startsWith('1 of 360')")
    page.fill("#search", "no answer has this")
    page.wait_for_function("document.getElementById('place').textContent === 'no prompt matches'")
    page.close()


def test_registered_versions_are_links(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    link = watched.page.locator('[data-version="sft-lora"] a')
    assert link.get_attribute("href") == "https://tracker.example/#/models/support/versions/1"
    assert watched.page.inner_text("#registry") == "7 versions of support at https://tracker.example"
    watched.page.close()


def test_a_page_works_in_a_frame_without_an_origin(browser: Browser, file: Path, tmp_path: Path) -> None:
    """As MLflow shows an HTML artifact."""
    frame = tmp_path / "frame.html"
    source = html.escape(file.read_text())
    frame.write_text(f'<iframe sandbox="allow-scripts" width="1200" height="800" srcdoc="{source}"></iframe>')
    page = browser.new_page()
    page.goto(frame.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator("#samples[data-drawn]").wait_for()
    inside.locator("figure.vega").first.scroll_into_view_if_needed()
    inside.locator("figure.vega[data-drawn] svg").first.wait_for()
    page.close()


def test_without_scripts_the_numbers_are_there(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert "The answers need JavaScript." in page.inner_text("main")
    assert page.locator("figure.vega details.values td").count() > 100
    context.close()
