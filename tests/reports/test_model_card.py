import copy
import re
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from shoot_out import HOW, SUITE, in_nats, models

from tunesmith.evaluation import comparison
from tunesmith.evaluation.documents import Comparison
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.reports import model_card

GATE = Gate(
    **{"against": "base", "confidence": 0.95, "power": 0.8, "resamples": 1000, "seed": 0, "max_not_gradable": 0.1},
    rules=[
        {"must": "improve", "suite": SUITE, "metric": "score", "by": 0.05},
        {"must": "not_exceed", "metric": "peak_memory_bytes", "limit": 3.4e9},
    ],
)
NAMES = ("sft-lora", "sft-full", "dpo", "rlhf")
DIGEST = 64 * "a"


def compared() -> Comparison:
    evaluated = models(*NAMES)
    return comparison.compare(evaluated, [], HOW, None, decide_all(GATE, evaluated, []))


COMPARISON = compared()


def lineage(**changes: Any) -> dict[str, Any]:
    origin = {
        "code": {"commit": "c0ffee", "clean": True},
        "base": {"source": f"hub org/base@{40 * 'b'}", "digest": DIGEST, "weights_digest": DIGEST},
        "inputs": {"data/ready/demo/train.jsonl": {"sha256": 64 * "d", "rows": 384}},
        "params": {
            "sft": {"dataset": "demo", "epochs": 1, "learning_rate": {"lora": 0.001, "full": 0.0001}},
            "lora": {"rank": 16},
        },
        "hardware": {"device": "a machine"},
        "method": {"objective": "sft", "weights": "lora"},
        "on": {"model": "base", "digest": DIGEST, "weights_digest": DIGEST},
        "parents": {"base": {"digest": DIGEST, "weights_digest": DIGEST}},
    }
    return {name: value for name, value in (origin | changes).items() if value is not None}


def card(
    name: str = "sft-lora",
    comparison: Comparison = COMPARISON,
    task: str = "text-generation",
    base_license: str | None = "mit",
    **changes: Any,
) -> str:
    return model_card.write(name, lineage(**changes), comparison, task=task, base_license=base_license)


def metadata(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def html(text: str) -> str:
    rendered: str = MarkdownIt("commonmark").enable("table").render(body(text))
    return rendered


def test_the_hub_reads_its_metadata() -> None:
    data = ModelCard(card()).data
    assert (data.base_model, data.license, data.library_name) == ("org/base", "mit", "peft")
    assert data.tags == ["tunesmith", "sft", "lora"]
    assert (data.model_name, data.pipeline_tag) == ("sft-lora", "text-generation")
    assert ModelCard(card(task="image-text-to-text")).data.pipeline_tag == "image-text-to-text"
    (result,) = data.eval_results
    assert (result.dataset_name, result.dataset_config, result.metric_type) == ("demo", SUITE, "accuracy")
    assert result.metric_value == pytest.approx(COMPARISON["models"]["sft-lora"]["score"], abs=1e-4)


def test_a_metric_of_lm_eval_is_named_and_keeps_its_unit() -> None:
    evaluated = in_nats(models(*NAMES))
    compared = comparison.compare(evaluated, [], HOW, None, decide_all(GATE, evaluated, []))
    text = card(comparison=compared)
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_type, result.metric_name) == ("score", "task's log-probability of a word")
    assert re.search(r"\| `sft-lora`, this model \| −\d\.\d+ \| −\d\.\d+ to −\d\.\d+ \| \+\d\.\d+ \|", body(text))


def test_the_same_inputs_give_the_same_card() -> None:
    assert card() == card(comparison=compared())


def test_names_that_are_not_the_hubs_are_left_out_of_its_metadata() -> None:
    data = metadata(card(base_license=None, base=lineage()["base"] | {"source": "package p==1 sha256:x"}))
    assert not {"base_model", "license", "datasets"} & data.keys()


@pytest.mark.parametrize(
    ("changes", "library", "kind"),
    [
        ({}, "peft", "an adapter (LoRA) on the weights of base"),
        ({"on": None, "method": {"objective": "sft", "weights": "full"}}, "transformers", "full weights,"),
    ],
)
def test_the_kind_of_weights_is_named(changes: dict[str, Any], library: str, kind: str) -> None:
    text = card(**changes)
    assert metadata(text)["library_name"] == library
    assert f"| kind | {kind}" in text


def test_a_merged_model_names_the_training_of_its_adapter() -> None:
    adapter = {"model": "sft-lora", "digest": DIGEST, "weights_digest": DIGEST, "on": lineage()["on"]}
    making = {"code": {"commit": "0ld", "clean": False}, "hardware": {"device": "a GPU"}}
    text = card("sft-full", on=None, merged=adapter | making, parents={"sft-lora": {"digest": DIGEST}})
    assert metadata(text)["library_name"] == "transformers"
    assert "merged" in metadata(text)["tags"]
    for part in ("an adapter merged into them", "| merged from | `sft-lora`", "a GPU", "commit 0ld, with uncommitted"):
        assert part in text


def test_the_tables_have_the_base_the_start_and_the_model_and_no_other() -> None:
    rows = [line for line in card("dpo").splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows[:3]] == ["base", "sft-lora", "dpo"]
    assert "From its start, `sft-lora`, on sums:" in card("dpo")
    assert "sft-full" not in card("dpo")


def test_scores_come_with_intervals_and_the_paired_difference() -> None:
    result = COMPARISON["against_baseline"]["sft-lora"]
    row = next(line for line in card().splitlines() if line.startswith("| `sft-lora`, this model"))
    score = COMPARISON["models"]["sft-lora"]
    assert f"{100 * score['score']:.1f}%" in row
    assert f"{100 * score['low']:.1f} to {100 * score['high']:.1f}%" in row
    assert f"{100 * result['difference']:+.1f} | {100 * result['low']:+.1f} to {100 * result['high']:+.1f}" in row
    assert row.endswith("| better |")


def test_findings_against_a_model_are_listed() -> None:
    changed = copy.deepcopy(COMPARISON)
    about = changed["suites"][SUITE]
    about["against_baseline"]["rlhf"] |= {"verdict": "worse", "difference": -0.2, "regressed": list("abcdefg")}
    about["models"]["rlhf"] |= {"stopped": 0.9, "not_gradable": 3}
    limits = body(card("rlhf", changed)).split("## What it is not good for")[1].split("##")[0]
    for part in (
        "On sums it is worse than base: −20.0 points",
        "does worse than base on 7 of 128 prompts: a, b, c, d, e, …",
        "10.0% of its answers were cut off",
        "3 of its answers could not be graded",
        "Broken: peak_memory_bytes must not exceed 3.40 GB",
        "While it trained: the reward rose by 1.9",
        "Nothing else was measured",
    ):
        assert part in limits


def test_only_the_learning_rate_that_was_used_is_named() -> None:
    assert "learning_rate 0.001" in card()
    assert "0.0001" not in card()


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head() -> None:
    for name in NAMES:
        for block in re.findall(r"(?:^\|.*\n)+", card(name), re.MULTILINE):
            assert len({row.replace("\\|", "").count("|") for row in block.splitlines()}) == 1


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "https://evil.example www.evil.example a@evil.example",
    "a | b | c",
    "`code` **bold** _it_ ~~no~~ \\",
    "a\n\n# heading\n\n---\n\n- item",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt;",
]


def card_with(text: str) -> str:
    """A card with a text in every place that can hold one."""
    changed = copy.deepcopy(COMPARISON)
    changed["models"]["rlhf"]["warnings"] = [text]
    changed["suites"][SUITE]["against_baseline"]["rlhf"]["regressed"] = [text]
    changed["gate"]["rlhf"]["rules"][0]["reason"] = text
    changes = {"hardware": {"device": text}, "params": {"sft": {"note": text}}, "parents": {text: {"digest": DIGEST}}}
    return card("rlhf", changed, **changes)


def tags(page: str) -> list[str]:
    return re.findall(r"<[^>]*>", page)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_data_is_shown_as_it_is_and_has_no_effect(text: str) -> None:
    hostile = card_with(text)
    assert tags(html(hostile)) == tags(html(card_with("text")))
    shown = re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert html(hostile).count(shown) == 6
    assert not re.search(r"https?://|www\.|a@", body(hostile))


@pytest.mark.parametrize("name", ["a\n---\nlicense: evil\n---\n", "x: [y", "'\"`|", "$(rm -rf ~); a"])
def test_a_name_cannot_write_metadata_or_commands(name: str) -> None:
    changed = copy.deepcopy(COMPARISON)
    for part in (changed["models"], changed["gate"], changed["against_baseline"]):
        part[name] = part["sft-lora"]
    for part in (changed["suites"][SUITE]["models"], changed["suites"][SUITE]["against_baseline"]):
        part[name] = part["sft-lora"]
    text = card(name, changed)
    data = ModelCard(text).data
    assert (data.license, data.model_name) == ("mit", name)
    commands = re.findall(r"```\n(.*?)```", text, re.DOTALL)[0]
    assert re.fullmatch(r"tunesmith lineage [\w@.?-]+ --verify\ntunesmith serve [\w@.?-]+\n", commands)
