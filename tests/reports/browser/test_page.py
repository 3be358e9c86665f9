"""The page of a comparison in Chromium: what only a browser can tell. `pytest -m browser`."""

import html
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from reports.browser.watched import DESKTOP, PHONE, SMALL_PHONE, Scheme, Watched
from shoot_out import HOW, models

from tunesmith.evaluation import comparison
from tunesmith.reports import comparison_page

pytestmark = pytest.mark.browser


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


def test_a_model_whose_name_has_the_focus_stands_out(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.draw_all()
    opacities = """() => new Set([...document.querySelectorAll(".training figure:first-child .mark-line path")]
                         .map(line => line.getAttribute("opacity") ?? "1")).size"""
    usual = watched.page.evaluate(opacities)
    watched.page.locator("input.toggle").first.focus()
    watched.page.wait_for_function(f"usual => ({opacities})() > usual", arg=usual)
    watched.page.locator("input.toggle").first.blur()
    watched.page.wait_for_function(f"usual => ({opacities})() === usual", arg=usual)
    watched.page.close()


def test_charts_that_nobody_scrolled_to_are_drawn_for_print(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.page.wait_for_function("!document.querySelector('figure.vega:not([data-drawn])')")
    watched.page.close()


def test_a_browser_lets_a_page_fetch_nothing(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    watched.page.evaluate(
        "document.body.append(Object.assign(new Image(), { src: 'https://elsewhere.example/a.png' }))"
    )
    watched.page.evaluate("fetch('https://elsewhere.example').catch(() => {})")
    refused = [error for error in watched.errors if "Content Security Policy" in error]
    assert ["elsewhere.example" in error for error in refused][:2] == [True, True]
    watched.page.close()


@pytest.mark.parametrize("width", [DESKTOP, SMALL_PHONE])
def test_long_names_of_models_fit(browser: Browser, tmp_path: Path, width: int) -> None:
    answered = models("sft-lora", "dpo", prompts=20)
    for model in answered[1:]:
        model.metrics["model"] = f"{model.name}-{'and-so-on' * 6}"[:60]
    path = tmp_path / "page.html"
    path.write_text(comparison_page.page(comparison.compare(answered, [], HOW), answered))
    watched = Watched(browser, path, width)
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width
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
