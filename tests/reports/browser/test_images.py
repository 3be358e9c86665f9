"""Images of prompts in the page, in Chromium. `pytest -m browser`."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from reports.browser.watched import Watched
from reports.test_answers import with_images
from shoot_out import HOW, SUITE, evaluated

from tunesmith.evaluation import comparison
from tunesmith.reports import comparison_page

pytestmark = pytest.mark.browser


def test_a_prompt_shows_its_images_and_loads_nothing_that_is_not_in_the_page(browser: Browser, tmp_path: Path) -> None:
    model, other = with_images(tmp_path, 3), evaluated("one", ["0", "1", "2"])
    for samples in (model.samples[SUITE], other.samples[SUITE]):
        samples[1]["row"] = {**samples[1]["row"], "prompt": [{"role": "user", "content": "no image"}]}
    *parts, text = model.samples[SUITE][2]["row"]["prompt"][0]["content"]
    model.samples[SUITE][2]["row"]["prompt"] = [{"role": "user", "content": [*parts * 5, text]}]
    for own, base in zip(other.samples[SUITE], model.samples[SUITE], strict=True):
        own["row"] = base["row"]
    path = tmp_path / "page.html"
    models = [model, other]
    path.write_text(comparison_page.page(comparison.compare(models, [], HOW), models, ready=tmp_path))
    watched = Watched(browser, path)
    image = watched.page.locator("#row-images img")
    assert image.evaluate("async node => { await node.decode(); return node.naturalWidth; }") == 192
    assert image.get_attribute("alt") == "image 1 of the prompt"
    small = watched.page.locator("#samples tbody td:first-child img")
    assert [one.get_attribute("alt") for one in small.all()] == [f"image {n} of the prompt" for n in (1, 1, 2, 3, 4)]
    assert watched.page.locator("#samples .images span").all_text_contents() == ["1 more image: no room in this page"]
    assert small.first.evaluate("async node => { await node.decode(); return node.height; }") <= 66
    watched.page.click("#next")
    watched.page.wait_for_function("() => document.querySelector('#row-prompt').textContent.trim() === 'no image'")
    assert image.count() == 0
    assert watched.errors == []
    assert all(url.startswith(("file:", "data:")) for url in watched.requests)
    watched.page.close()
