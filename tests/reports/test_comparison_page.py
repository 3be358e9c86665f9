import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from shoot_out import HOW, SUITE, TUNED, evaluated, in_nats, models

from tunesmith.evaluation import comparison
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.reports import comparison_page, sentences


def page(models_: list[Evaluated]) -> str:
    return comparison_page.page(comparison.compare(models_, [], HOW), models_)


def script_rows(html: str) -> list[dict[str, Any]]:
    """The rows that the page's script draws."""
    rows: list[dict[str, Any]] = json.loads(html.split('id="rows">')[1].split("</script>")[0])
    return rows


class Tags(HTMLParser):
    """Check that tags nest, and record every attribute that could fetch something."""

    VOID = ("meta", "input", "br", "line", "circle", "path", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [(tag, value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("count", [1, 6, 8])
def test_a_page_is_well_formed_and_fetches_nothing(count: int) -> None:
    names = list(TUNED)[:count]
    html = page(models(*names))
    tags = Tags()
    tags.feed(html)
    assert (tags.open, tags.fetched) == ([], [])
    assert "url(" not in html
    for name in names:
        assert html.count(f"<th>{name}<br>") == 1


def test_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for count in (1, 6):
        for table in re.findall(r"<table.*?</table>", page(models(*list(TUNED)[:count])), re.DOTALL):
            rows = [row for row in table.split("<tr")[1:] if "colspan" not in row]
            assert len({len(re.findall(r"<t[dh][ >]", row)) for row in rows}) == 1, rows[0]


def test_hostile_answers_are_shown_as_text() -> None:
    attack = "<script>alert(1)</script>"
    models_ = [evaluated("base", [attack, "1"]), evaluated("tuned", ["0", "1"])]
    models_[1].training.insert(0, {"event": "warning", "text": attack})
    models_[1].training.insert(0, {"event": "start", "method": attack})
    models_[0].samples[SUITE][1]["reason"] = '"></script><script>alert(1)</script>'
    html = page(models_)
    assert attack not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 1
    assert html.count("<script") == html.count("</script>") == 2


def test_every_row_has_every_models_score_answer_and_reason() -> None:
    models_ = [evaluated(name, texts) for name, texts in {"base": ["x", "1", "x"], "one": ["0", "1", "x"]}.items()]
    models_[1].samples[SUITE][1]["status"] = "not_gradable"
    rows = script_rows(page(models_))
    assert [[score for score, *_ in row["answers"]] for row in rows] == [[0.0, 1.0], [1.0, None], [0.0, 0.0]]
    assert rows[0]["answers"][1] == [1.0, "0", "0 is 0"]
    assert (rows[1]["suite"], rows[1]["prompt"], rows[1]["reference"]) == (SUITE, "what is 1?", "1")


def test_the_gates_decisions_are_shown_with_every_rule() -> None:
    models_ = models("sft-lora", "grpo")
    rules = [
        {"must": "improve", "suite": SUITE, "metric": "score", "by": 0.02},
        {"must": "not_exceed", "metric": "training_seconds", "limit": 200},
    ]
    gate = Gate(against="base", confidence=0.95, power=0.8, resamples=1000, seed=0, max_not_gradable=0.1, rules=rules)
    compared = comparison.compare(models_, [], HOW, decisions=decide_all(gate, models_, []))
    outcomes = {name: decision["outcome"] for name, decision in compared["gate"].items()}
    assert outcomes == {"sft-lora": "pass", "grpo": "fail"}
    html = comparison_page.page(compared, models_)
    assert "grpo fails against base: training_seconds must not exceed 3m 20s" in html
    assert "the score on sums must improve by at least 2 points" in html


def test_scores_that_are_no_shares_are_shown_in_their_unit() -> None:
    models_ = in_nats(models("sft-lora", "grpo"))
    compared = comparison.compare(models_, [], HOW)
    assert not compared["suites"][SUITE]["share"]
    assert "grpo is better than base: log-probability of a word −8.57 → −5.172 on" in sentences.best(compared)
    html = comparison_page.page(compared, models_)
    quality = html[html.index("<h2>Quality</h2>") : html.index("<h2>Cost</h2>")]
    assert re.search(r"<b>−8\.\d+</b><br><span class=\"soft\">\[−\d", quality)
    assert not re.search(r"\d%", quality.replace("95% interval", "").replace("5%\nof them", ""))
    assert "points" not in quality.replace("<polyline points", "")
    positions = [float(x) for x in re.findall(r'<circle cx="([\d.-]+)"', quality)]
    assert all(0 < x < 520 for x in positions)


def test_the_filter_selects_the_best_model() -> None:
    assert re.search(r'<option value="2" selected>grpo</option>', page(models("sft-lora", "grpo", "rlhf")))


def test_memory_is_shown_beside_its_prediction() -> None:
    cells = re.findall(r'<td class="number">(.*?)</td>', page(models("sft-full")))
    assert cells[cells.index("4.98 GB") :][:3] == ["4.98 GB", "5.40 GB", "0.92×"]


def test_warnings_and_held_out_preferences_are_shown() -> None:
    html = page(models("dpo", "rlhf"))
    assert "⚠ rlhf: the reward rose" in html
    assert "54.7%" in html
    assert "84.4%" in html


def test_values_that_an_older_journal_lacks_are_dashes() -> None:
    html = page([evaluated("base", ["0", "x"]), evaluated("old", ["0", "1"])])
    assert "None" not in html
    assert html.count("Not measured, not drawn: old.") == 1


def test_a_loss_that_was_never_finite_is_named_not_drawn() -> None:
    lost = evaluated("lost", ["0", "1"])
    lost.training[0]["loss"] = None
    assert "not finite at any of 1 steps" in page([evaluated("base", ["0", "x"]), lost])


def test_the_kept_step_is_marked_in_the_charts_and_a_line_says_why() -> None:
    html = page(models("sft-lora", "sft-qlora", "grpo"))
    assert html.count('class="legend') == 1
    sections = {section.split(" ")[0]: section for section in html.split("<section><h3>")[1:]}
    assert {name: section.count('class="diamond') for name, section in sections.items()} == {
        "sft-lora": 6,
        "sft-qlora": 0,
        "grpo": 6,
    }
    assert "kept: step 36 of 60, the lowest validation loss (0.74); the last had 0.82" in sections["sft-lora"]
    assert sections["sft-lora"].count('class="diamond at"') == sections["sft-lora"].count('class="kept"') == 1
    assert "kept: step 60 of 60, the last, since there were no validation rows" in sections["sft-qlora"]
    assert "kept: step 48 of 60, the highest validation score (0.61); the last had 0.55" in sections["grpo"]


def test_a_reward_model_is_shown_beside_the_models_that_answer() -> None:
    journal = [
        {"event": "held_out", "when": "before", "pairs": 40, "accuracy": 0.5, "low": 0.35, "high": 0.65, "margin": 0.0},
        {"event": "validation", "step": 0, "loss": 0.69, "accuracy": 0.5, "margin": 0.0},
        {"event": "step", "step": 1, "loss": 0.7, "accuracy": 0.5},
        {"event": "validation", "step": 1, "loss": 0.5, "accuracy": 0.775, "margin": 1.2},
        {"event": "held_out", "when": "after", "pairs": 40, "accuracy": 0.775, "low": 0.6, "high": 0.9, "margin": 1.2},
        {"event": "end", "steps": 1, "kept": 1},
    ]
    trained = models()
    compared = comparison.compare(trained, [], HOW, {"reward": journal})
    assert compared["reward_models"]["reward"]["after"]["accuracy"] == 0.775
    html = comparison_page.page(compared, trained, {"reward": journal})
    assert "77.5%" in html
    assert "<b>reward</b>" in html
    assert "kept: step 1 of 1, the last, with the lowest validation loss (0.5)" in html
