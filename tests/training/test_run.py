import math
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import QWEN
from profiles import EXACT
from safetensors.torch import load_file
from sft_sums import LORA, PROBES, ROWS, settings, spec_of, tokens
from transformers import set_seed
from trl import SFTTrainer

from tunesmith.core import journal, manifest
from tunesmith.core.errors import DataError, IntegrityError, TrainingError
from tunesmith.models import chat, chat_template, device, generation, loading, weights
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import likelihoods
from tunesmith.training import run
from tunesmith.training.objectives.sft import Examples, make_trainer, right_answers
from tunesmith.training.watch import Watch


def tune(base: Path, out: Path, scratch: Path, **changes: Any) -> manifest.Manifest:
    """Train two-step LoRA on the tiny base, as the stage does."""
    sft, profile = settings(**changes), device.detect()
    set_seed(sft.seed)
    policy = loading.open_policy(base, base, profile, sft.weights, sft.lora)
    trainer = make_trainer(policy, tokens(policy.tokenizer, ROWS, sft), sft, profile, scratch)
    watch = Watch(probes=PROBES, rows_of=trainer.data_collator.rows_of)
    run.train(trainer, policy, spec_of(sft, out, base), watch, profile)
    return manifest.read(out)


@pytest.fixture(scope="module")
def tuned(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the tiny base. Not to be written to."""
    folder = tmp_path_factory.mktemp("tuned")
    tune(tiny_base, folder / "sft-lora", folder / "scratch")
    return folder / "sft-lora"


def test_an_adapter_folder_holds_every_file_of_a_model_folder(tuned: Path) -> None:
    files = set(manifest.verify(tuned).files)
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"} <= files
    assert {"training.jsonl", "lineage.json", "README.md"} <= files


def test_the_journal_holds_every_event_of_the_training(tuned: Path) -> None:
    events = journal.read(tuned / journal.NAME)
    kinds = [event["event"] for event in events]
    steps = [event for event in events if event["event"] == "step"]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("sample") == 2 * len(PROBES)
    assert [event["step"] for event in steps] == list(range(1, events[-1]["steps"] + 1))
    assert all(math.isfinite(event["loss"]) for event in steps)
    assert events[-1]["trainable_parameters"] < events[-1]["total_parameters"]


def test_the_base_is_unchanged_and_the_tuned_model_answers_differently(tiny_base: Path, tuned: Path) -> None:
    manifest.verify(tiny_base)
    profile = device.detect()
    answers = [
        generation.answer(opened.model, opened.tokenizer, PROBES, max_new_tokens=8)
        for opened in (loading.open_model(tiny_base, tiny_base, profile), loading.open_model(tuned, tiny_base, profile))
    ]
    assert answers[0] != answers[1]


def test_models_that_share_their_weights_answer_as_each_does_alone(
    tiny_base: Path, tuned: Path, tmp_path: Path
) -> None:
    """An adapter leaves no trace on the weights that the next model is on."""
    other = tmp_path / "sft-other"
    tune(tiny_base, other, tmp_path / "scratch", seed=7)
    folders = [tiny_base, tuned, other, tiny_base]

    def likely(opened: OpenModel) -> list[float]:
        return [
            likelihood.log_prob
            for likelihood in likelihoods(opened, [([5, 6, 7], [8, 9]), ([5], [6, 7, 8])], batch_size=2)
        ]

    alone = [likely(loading.open_model(folder, tiny_base, EXACT)) for folder in folders]
    together = [(folder, likely(opened)) for folder, opened in loading.open_each(folders, tiny_base, EXACT)]
    assert sorted(together) == sorted(zip(folders, alone, strict=True))
    assert len({tuple(values) for values in alone}) == 3


def test_training_again_ends_in_identical_weights(tiny_base: Path, tuned: Path, tmp_path: Path) -> None:
    again = tune(tiny_base, tmp_path / "sft-lora", tmp_path / "scratch")
    assert again.weights_digest == manifest.read(tuned).weights_digest


def test_the_chat_template_is_that_of_the_base(tiny_base: Path, tuned: Path) -> None:
    profile = device.detect()
    digests = {chat_template.digest(loading.open_model(f, tiny_base, profile).tokenizer) for f in (tiny_base, tuned)}
    assert len(digests) == 1


def test_an_adapter_is_refused_on_another_base(tuned: Path, tiny_base: Path, tmp_path: Path) -> None:
    opened = loading.open_model(tiny_base, tiny_base, device.detect())
    with torch.no_grad():
        opened.model.model.norm.weight.add_(1)
    other = tmp_path / "base"
    opened.model.save_pretrained(other)
    opened.tokenizer.save_pretrained(other)
    manifest.write(other)
    with pytest.raises(IntegrityError, match="trained on a base with weights"):
        loading.open_model(tuned, other, device.detect())


@pytest.fixture
def packed(tiny_base: Path, tmp_path: Path) -> tuple[SFTTrainer, Examples]:
    """A trainer over six rows that make one packed sequence, and the rows as tokens."""
    profile, sft = EXACT, settings(max_length=512)
    policy = loading.open_policy(tiny_base, tiny_base, profile, "lora", LORA)
    examples = tokens(policy.tokenizer, ROWS[:6], sft)
    return make_trainer(policy, examples, sft, profile, tmp_path), examples


def test_packed_rows_do_not_see_each_other(packed: tuple[SFTTrainer, Examples]) -> None:
    """The loss of rows packed together is the loss of the same rows alone."""
    trainer, examples = packed
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape == (1, sum(len(example.input_ids) for example in examples.values()))
    with torch.no_grad():
        together = trainer.compute_loss(trainer.model, batch).item()
        total, count = 0.0, 0
        for example in examples.values():
            ids = torch.tensor([example.input_ids])
            labels = torch.tensor([example.completion_mask]).bool()
            logits = trainer.model(input_ids=ids).logits[:, :-1].log_softmax(-1)
            losses = -logits.gather(-1, ids[:, 1:, None])[..., 0]
            total += losses[labels[:, 1:]].sum().item()
            count += int(labels[:, 1:].sum())
    assert together == pytest.approx(total / count, rel=1e-5)


def test_every_completion_token_is_trained_and_no_other(packed: tuple[SFTTrainer, Examples]) -> None:
    trainer, _ = packed
    batch = next(iter(trainer.get_train_dataloader()))
    trained = batch["input_ids"][batch["labels"] != -100]
    answers = sorted(row["completion"][0]["content"] + "<|im_end|>" for row in ROWS[:6])
    decoded = trainer.processing_class.decode(trained).replace("<|im_end|>", "<|im_end|>\n").split("\n")[:-1]
    assert sorted(decoded) == answers


def test_a_row_whose_turns_are_rendered_anew_makes_an_example_of_each(tiny_base: Path) -> None:
    tokenizer = loading.open_model(tiny_base, tiny_base, device.detect()).tokenizer
    tokenizer.chat_template = QWEN
    talk = {"id": "talk", "prompt": ROWS[0]["prompt"] + ROWS[0]["completion"] + ROWS[1]["prompt"]}
    rows = [talk | {"completion": ROWS[1]["completion"]}, ROWS[2]]
    examples = tokens(tokenizer, rows, settings(turns="all", max_length=200))
    assert list(examples) == ["talk", "talk#1", ROWS[2]["id"]]
    assert examples["talk#1"] == tokens(tokenizer, [ROWS[0]], settings())[ROWS[0]["id"]]
    longest = max(len(example.input_ids) for example in examples.values())
    with pytest.raises(DataError, match="1 of 2 rows are longer"):
        tokens(tokenizer, rows, settings(turns="all", max_length=longest - 1))


def test_an_answer_ends_at_any_token_that_the_model_is_served_to_stop_at(tiny_base: Path) -> None:
    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    prompts = [chat.encode_prompt(opened.tokenizer, prompt) for prompt in (row["prompt"] for row in PROBES)]

    def completions() -> list[list[int]]:
        return generation.generate(opened.model, prompts, opened.tokenizer, do_sample=False, max_new_tokens=8)

    longer = completions()
    stop = longer[0][2]
    opened.model.generation_config.eos_token_id = [stop]
    for before, after in zip(longer, completions(), strict=True):
        assert after == before[: before.index(stop) + 1 if stop in before else None]


def test_a_seed_draws_the_same_completion_beside_any_others(tiny_base: Path) -> None:
    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    prompts = [chat.encode_prompt(opened.tokenizer, row["prompt"]) for row in PROBES[:2]]

    def draw(prompts: list[list[int]], seeds: list[int], tokens: int = 8) -> list[list[int]]:
        return generation.draw(opened.model, opened.tokenizer, prompts, seeds, max_new_tokens=tokens, temperature=0.7)

    first, second = draw(prompts, [1, 2])
    assert draw(prompts[::-1], [2, 1]) == [second, first]
    assert draw(prompts[:1], [1]) == [first] != draw(prompts[:1], [3])


def test_tokens_are_drawn_as_often_as_the_model_says(tiny_base: Path) -> None:
    opened, number = loading.open_model(tiny_base, tiny_base, EXACT), 4000
    prompt = chat.encode_prompt(opened.tokenizer, PROBES[0]["prompt"])
    with torch.inference_mode():
        logits = opened.model(torch.tensor([prompt])).logits[0, -1]
    drawn = generation.draw(
        opened.model, opened.tokenizer, [prompt] * number, range(number), max_new_tokens=1, temperature=0.5
    )
    counts = torch.bincount(torch.tensor([tokens[0] for tokens in drawn]), minlength=len(logits))
    expected = number * (logits / 0.5).softmax(-1)
    statistic = float(((counts - expected) ** 2 / expected).sum())  # chi-squared, with a degree of freedom a token
    assert statistic < len(logits) + 5 * (2 * len(logits)) ** 0.5


def test_rows_too_long_are_counted_before_training(tiny_base: Path) -> None:
    tokenizer = loading.open_model(tiny_base, tiny_base, device.detect()).tokenizer
    with pytest.raises(DataError, match=r"24 of 24 rows are longer than sft\.sft-lora\.max_length"):
        tokens(tokenizer, ROWS, settings(max_length=8))


def test_a_training_without_effect_is_an_error_and_leaves_nothing(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training had no effect"):
        tune(tiny_base, tmp_path / "sft-lora", tmp_path / "scratch", learning_rate=1e-12)
    assert not (tmp_path / "sft-lora").exists()


def test_an_error_names_the_rows_of_its_step(packed: tuple[SFTTrainer, Examples]) -> None:
    trainer, examples = packed
    for _ in trainer.get_train_dataloader():
        pass
    assert sorted(trainer.data_collator.rows_of(1)) == sorted(examples)


def test_a_loss_that_is_not_finite_stops_the_training_and_saves_nothing(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return plain(self, *args, **kwargs) * math.nan

    plain = SFTTrainer.compute_loss
    monkeypatch.setattr(SFTTrainer, "compute_loss", poisoned)
    with pytest.raises(TrainingError, match=r"step 1 \(rows .*1\+5.*\): loss nan"):
        tune(tiny_base, tmp_path / "sft-lora", tmp_path / "scratch", batch_size=8)
    assert not (tmp_path / "sft-lora").exists()


def test_right_answers_are_measured_to_their_end_of_turn(tiny_base: Path) -> None:
    policy = loading.open_policy(tiny_base, tiny_base, device.detect(), "lora", LORA)
    examples = list(tokens(policy.tokenizer, ROWS[:2], settings()).values())
    with torch.no_grad():
        ids = torch.tensor([examples[0].input_ids])
        likeliest = int(policy.model(input_ids=ids[:, :-1]).logits[0, -1].argmax())
        losses = policy.model(
            input_ids=ids, labels=ids.where(torch.tensor([examples[0].completion_mask]) == 1, -100)
        ).loss
    measured = right_answers(policy, examples[:1])
    assert measured.ends == [likeliest == policy.tokenizer.eos_token_id]
    assert measured.surprise == pytest.approx(float(losses), rel=1e-3)
    other = chat.Example([*examples[0].input_ids[:-1], likeliest], examples[0].completion_mask)
    ended = right_answers(policy, [examples[1], other])
    assert ended.ends[1]


def test_one_changed_value_changes_one_digest(tiny_base: Path) -> None:
    model = loading.open_policy(tiny_base, tiny_base, device.detect(), "lora", LORA).model
    frozen, trained = weights.digests(model, trained=False), weights.digests(model, trained=True)
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_A" in n).add_(1)
    assert weights.digests(model, trained=False) == frozen
    assert len(weights.digests(model, trained=True).items() - trained.items()) == 1
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "base_layer" in n)[0, 0] += 1e-3
    assert len(weights.digests(model, trained=False).items() - frozen.items()) == 1


def test_a_model_of_full_weights_names_its_base(tiny_base: Path, tmp_path: Path) -> None:
    out, profile = tmp_path / "sft-full", device.detect()
    set_seed(1)
    policy = loading.open_policy(tiny_base, tiny_base, profile, "full", LORA)
    sft = settings(weights="full", learning_rate=0.01)
    trainer = make_trainer(policy, tokens(policy.tokenizer, ROWS, sft), sft, profile, tmp_path)
    run.train(trainer, policy, spec_of(sft, out, tiny_base), Watch(probes=PROBES), profile)
    opened = loading.open_model(out, tiny_base, profile)
    assert (opened.full_weights, opened.base) == (out, manifest.read(tiny_base))
    assert opened.manifest.weights_digest != opened.base.weights_digest


def test_only_the_adapter_is_saved(tuned: Path) -> None:
    assert all("lora_" in name for name in load_file(tuned / "adapter_model.safetensors"))


def test_a_journal_cut_short_yields_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    path.write_bytes(b'{"event":"start","time":1}\n{"event":"st')
    assert [event["event"] for event in journal.read(path)] == ["start"]
