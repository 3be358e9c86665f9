"""The answers of the page in Chromium. `pytest -m browser`."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from reports.browser.watched import Watched
from shoot_out import HOW, SUITE, models

from reports import long_page
from tunesmith.evaluation import comparison
from tunesmith.evaluation.gate import decide_all
from tunesmith.reports import comparison_page

pytestmark = pytest.mark.browser


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
      const joined = other => parts.filter(part => !part[other]).map(part => part.value).join("");
      const equal = parts.filter(part => !part.added && !part.removed).map(part => part.value).join("");
      const whole = [joined("added") === first, joined("removed") === second];
      return [...whole, equal.includes("quick"), wordDiff("same", "same").length];
    }""")
    assert parts == [True, True, True, 1]
    watched.page.close()


def test_no_text_holds_the_page_up(browser: Browser, file: Path) -> None:
    watched = Watched(browser, file)
    slowest: Any = watched.page.evaluate("""() => {
      const seconds = task => { const began = performance.now(); task(); return (performance.now() - began) / 1000; };
      const words = (count, step) => Array.from({ length: count }, (_, n) => "w" + (n * step) % 9973).join(" ");
      const times = [seconds(() => wordDiff(words(5000, 7919), words(5000, 6007)))];
      for (const part of ["*", "**a", "[", "![a](", "`", "- ", "> ", "|", "_a", "~~", "# ", "a|b\\n-|-\\n", "\\n", " "])
        for (const end of ["", "x", "\\n|-|"]) times.push(seconds(() => Markdown.render(part.repeat(20000) + end)));
      return Math.max(...times);
    }""")
    assert slowest < 5  # a pattern that backtracks takes minutes
    watched.page.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](javascript:alert(1)) <https://x.example>", "<p>[a](javascript:alert(1)) &lt;https://x.example&gt;</p>"),
        ("[a]: https://x.example", "<p>[a]: https://x.example</p>"),
        ("<b onclick='x'>\n<!-- c -->", "<p>&lt;b onclick='x'&gt;<br>\n&lt;!-- c --&gt;</p>"),
        ("# Title", '<p class="heading"><strong>Title</strong></p>'),
        ("so\n<tool_call>\n<b>", "<p>so</p>\n<p><strong>tool call</strong></p><pre><code>&lt;b&gt;</code></pre>"),
    ],
)
def test_addresses_and_html_are_text(browser: Browser, file: Path, text: str, shown: str) -> None:
    watched = Watched(browser, file)
    assert watched.page.evaluate("text => Markdown.render(text).innerHTML.trim()", text) == shown
    watched.page.close()


def test_characters_without_a_shape_are_numbers(browser: Browser, tmp_path: Path) -> None:
    answered = models("sft-lora", prompts=2)
    answered[0].samples[SUITE][0]["completion"] = "\u202eabc\u200d\ufeff"
    path = tmp_path / "page.html"
    path.write_text(comparison_page.page(comparison.compare(answered, [], HOW), answered))
    watched = Watched(browser, path)
    assert watched.page.inner_text("#left-answer .markdown") == "⟨U+202E⟩abc\u200d⟨U+FEFF⟩"
    watched.page.close()


def test_a_prompt_that_the_gate_names_opens_with_the_two_models_that_it_compared(
    browser: Browser, tmp_path: Path
) -> None:
    answered = long_page.evaluated(prompts=60, length=0, suites=2)
    decisions = decide_all(long_page.GATE, answered, [])
    decisions["dpo"]["rules"][0]["regressed"] = ["5"]
    path = tmp_path / "page.html"
    path.write_text(comparison_page.page(comparison.compare(answered, [], HOW, decisions=decisions), answered))
    watched = Watched(browser, path)
    watched.page.locator("tr", has_text="dpo").locator(".why summary").first.click()
    watched.page.locator(".why button.id").click()
    watched.page.wait_for_function("document.getElementById('place').textContent.endsWith(': sums, 5')")
    assert watched.page.inner_text("#left-name").startswith("base")
    assert watched.page.inner_text("#right-name").startswith("dpo")
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
