import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, cast

import pytest
from lineages import ORIGIN
from shoot_out import HOW, SUITE, TUNED, evaluated, in_nats, models

from tunesmith.evaluation import comparison
from tunesmith.evaluation.comparison import Evaluated
from tunesmith.evaluation.documents import Comparison
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.reports import comparison_page, facts, sentences, vendored

SECTIONS = ("quality", "cost", "training", "provenance", "answers")


def page(models_: list[Evaluated]) -> str:
    return comparison_page.page(comparison.compare(models_, [], HOW), models_)


def own(html: str) -> str:
    """A page without the vendored libraries."""
    return html.replace(vendored.script(*vendored.CHARTS), "").replace(vendored.script(*vendored.TEXTS), "")


class Tags(HTMLParser):
    """Check that tags nest, and record every attribute that could fetch something."""

    VOID = ("meta", "input", "br")

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
    assert tags.open == []
    assert {value for _, value in tags.fetched} == {f"#{part}" for part in SECTIONS}
    assert "url(" not in own(html)
    for name in names:
        assert html.count(f'<th scope="col">{name}<br>') == 1
    for part in SECTIONS:
        assert html.count(f'id="{part}"') == 1


def test_the_facts_stand_at_the_head_and_beside_each_model() -> None:
    models_ = models("sft-lora")
    metrics: Any = {"time": 1_767_323_045_000, "model_digest": "f" * 64, "dtype": "bfloat16"}
    about = facts.collect({"source": "hub Qwen/Qwen3-8B@9c92"}, {"sft-lora": cast(Any, ORIGIN)}, [metrics])
    html = comparison_page.page(comparison.compare(models_, [], HOW), models_, about=about)
    head, provenance = html.split("<nav")[0], html.split('id="provenance"')[1]
    for text in ("hub Qwen/Qwen3-8B@9c92", "commit cccccccccccc", "torch 2.13", "a CPU x 2", "1,384 rows", "UTC"):
        assert text in head
    assert '<td data-version="sft-lora">' in provenance


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
    models_[0].samples[SUITE][1]["reason"] = f'">{attack}'
    html = page(models_)
    assert attack not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 1


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
    quality = html[html.index('<h2 id="quality">') : html.index("<h2>Cost</h2>")]
    assert re.search(r"<b>−8\.\d+</b><br><span class=\"soft\">\[−\d", quality)
    assert not re.search(r"[\d~]%", quality.replace("95% interval", "").replace("5%\nof them", ""))
    assert ", points" not in quality


def test_the_row_view_opens_with_the_base_and_the_best_model() -> None:
    left, right = page(models("sft-lora", "grpo", "rlhf")).split('<select id="right">')
    assert '<select id="left"><option value="0">base</option>' in left
    assert re.search(r'<option value="2" selected>grpo</option>', right)


def test_memory_is_shown_beside_its_prediction() -> None:
    cells = re.findall(r'<td class="number">(.*?)</td>', page(models("sft-full")))
    assert cells[cells.index("4.98 GB") :][:3] == ["4.98 GB", "5.40 GB", "0.92×"]


def gated(*names: str) -> tuple[Comparison, list[Evaluated]]:
    """A comparison whose gate passes every model that beats the base."""
    models_ = models(*names)
    return comparison.compare(models_, [], HOW, decisions=decide_all(gate(), models_, [])), models_


def gate() -> Gate:
    """A gate that passes every model that beats the base."""
    rules: Any = [{"must": "improve", "suite": SUITE, "metric": "score", "by": 0.0}]
    return Gate(against="base", confidence=0.95, power=0.8, resamples=1000, seed=0, max_not_gradable=0.1, rules=rules)


def test_a_warning_stands_in_the_gates_row_of_its_model() -> None:
    html = comparison_page.page(*gated("dpo", "rlhf"))
    rows = {row.split("</th>")[0]: row for row in html.split('id="gate"')[1].split('<tr><th scope="row">')[1:3]}
    assert "⚠ the reward rose" in rows["rlhf"]
    assert '<td class="decision warning"><b>pass</b><br>⚠ with 2 warnings' in rows["rlhf"]
    assert '<td class="decision better"><b>pass</b></td>' in rows["dpo"]
    assert "⚠" not in rows["dpo"]


def test_a_warning_of_a_reward_model_stands_with_the_model_that_followed_it() -> None:
    journals: Any = {
        name: [{"event": "start", "model": name}, {"event": "warning", "text": f"{name} ranks few pairs"}]
        for name in ("reward", "other")
    }
    models_ = models("dpo", "rlhf")
    models_[2].training[0]["params"] = {"rlhf": {"rlhf": {"reward": "reward"}}}  # type: ignore
    compared = comparison.compare(models_, [], HOW, journals, decisions=decide_all(gate(), models_, []))
    html = comparison_page.page(compared, models_, journals)
    rows = {row.split("</th>")[0]: row for row in html.split('id="gate"')[1].split('<tr><th scope="row">')[1:3]}
    assert "⚠ its reward model reward: reward ranks few pairs" in rows["rlhf"]
    assert "reward ranks" not in rows["dpo"]
    assert html.count("reward ranks few pairs") == 1
    assert "⚠ other: other ranks few pairs" in html  # which no model followed


def test_without_a_gate_warnings_stand_below_the_scores() -> None:
    assert "⚠ rlhf: the reward rose" in page(models("dpo", "rlhf")).split('<h2 id="quality">')[1]


def test_a_cost_that_no_training_measured_has_no_chart() -> None:
    models_ = [replace(model, training=[]) for model in models("sft-lora")]
    html = page(models_)
    assert "against training time" not in html
    assert "No training's peak memory was measured." in html


def test_memory_beyond_its_prediction_is_a_warning() -> None:
    compared = comparison.compare(models("dpo", "rlhf"), [], HOW)
    assert sentences.warnings("dpo", compared) == []
    assert sentences.warnings("rlhf", compared)[-1] == (
        "its training used 3.50 GB of memory, 1.13× of the predicted 3.10 GB: a plan for it is too small"
    )


def test_the_headline_has_the_warnings_of_its_model() -> None:
    html = comparison_page.page(*gated("rlhf"))
    headline = html.split('<p class="headline')[1].split("</p>")[0]
    assert headline.startswith(" doubtful")
    assert "⚠ rlhf: the reward rose" in headline


def test_the_headline_says_what_the_gate_decided_on_its_model() -> None:
    compared, models_ = gated("sft-lora")
    headline = comparison_page.page(compared, models_).split('<p class="headline ')[1].split("</p>")[0]
    assert headline.startswith("better")
    assert headline.endswith("The gate: sft-lora passes against base: every rule is kept (1).")
    compared["gate"]["sft-lora"]["outcome"] = "fail"
    assert '<p class="headline worse">' in comparison_page.page(compared, models_)
    compared["gate"]["sft-lora"]["outcome"] = "undecided"
    assert '<p class="headline doubtful">' in comparison_page.page(compared, models_)


def test_held_out_preferences_are_shown() -> None:
    html = page(models("dpo", "rlhf"))
    assert "54.7%" in html
    assert "84.4%" in html


def test_p_values_are_text_that_a_switch_shows() -> None:
    html = page(models("sft-lora"))
    assert re.search(r'<span class="soft exact"><br>p (=|&lt;) [\d.e-]+, 128 prompts</span>', html)
    assert "title=" not in html.split("<h1>")[1].split("<script")[0]


def test_values_that_an_older_journal_lacks_are_dashes() -> None:
    html = page([evaluated("base", ["0", "x"]), evaluated("old", ["0", "1"])])
    assert "None" not in own(html)
    assert "No training's peak memory was measured." in html


def test_a_loss_that_was_never_finite_is_named_not_drawn() -> None:
    lost = evaluated("lost", ["0", "1"])
    lost.training[0]["loss"] = None
    assert "not finite at any of 1 steps" in page([evaluated("base", ["0", "x"]), lost])


def test_a_line_says_which_step_was_kept_and_why() -> None:
    html = page(models("sft-lora", "sft-qlora", "grpo"))
    assert "<b>sft-lora</b> kept step 36 of 60, the lowest validation loss (0.74); the last had 0.82" in html
    assert "<b>sft-qlora</b> kept step 60 of 60, the last, since there were no validation rows" in html
    assert "<b>grpo</b> kept step 48 of 60, the highest validation score (0.61); the last had 0.55" in html


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
    assert '<th scope="row">reward</th>' in html
    assert "<b>reward</b> kept step 1 of 1, the last, with the lowest validation loss (0.5)" in html
