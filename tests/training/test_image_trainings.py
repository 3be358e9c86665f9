"""Trainings on rows with images: real stages on tiny models of two architectures, saved, loaded and asked."""

import random
import shutil
from pathlib import Path
from typing import Any

import method_project
import pytest
import tiny_vision
import torch
from peft import PeftModel
from PIL import Image, ImageColor
from safetensors.torch import load_file
from tiny_vision import ask, say
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from stages import reference, train_dpo, train_grpo, train_kto, train_reward, train_sft
from tests.profiles import EXACT
from tunesmith.cli import plan_entries
from tunesmith.core import journal, layout, lineage, manifest, ready_rows
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import WeightsKind
from tunesmith.core.ready_rows import ImagePart, Row
from tunesmith.models import chat, device, generation, loading
from tunesmith.models.images import processor
from tunesmith.models.images.tokens import FIRST_ID
from tunesmith.models.log_probs import likelihoods
from tunesmith.planning import hardware, memory, model_shape, workload
from tunesmith.project import document
from tunesmith.training import checks, merge
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.entries.sft import Sft
from tunesmith.training.objectives import rollouts, sft
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

COLORS = ("red", "blue", "green", "yellow", "black", "purple", "orange", "gray")
START = method_project.SFT | {"weights": "lora", "epochs": 4, "probes": 2}
PARAMS: dict[str, Any] = method_project.PARAMS | {
    "sft": {"sft-lora": START},
    "kto": {"kto": method_project.PAIRS | {"dataset": "marks", "beta": 0.5, "vision": "all"}},
}


def row(dataset: str, number: int, color: str, image: ImagePart) -> Row:
    """A row about an image; every fifth is about a text."""
    about = ask(image) if number % 5 else [ready_rows.Message(role="user", content=f"Say {color}.")]
    asked: Row = {"id": f"{dataset}{number}", "prompt": about}
    match dataset:
        case "answers":
            return asked | {"completion": say(color)}
        case "pairs":
            return asked | {"chosen": say(color), "rejected": say("no idea")}
        case "marks":
            return asked | {"completion": say(color if number % 2 else "no idea"), "label": bool(number % 2)}
    return asked | {"verifier": "number", "reference": str(number % 10)}


def make(folder: Path, base: Path) -> Path:
    """A project whose rows have images of two sizes."""
    method_project.make(folder, base, PARAMS)
    for dataset in ("answers", "pairs", "marks", "prompts"):
        ready = folder / layout.READY / dataset
        images = [part for size in ((32, 32), (64, 32)) for part in tiny_vision.draw(ready / "images", COLORS, size)]
        rows = [
            row(dataset, at, color, image) for at, (color, image) in enumerate(zip(2 * COLORS, images, strict=True))
        ]
        for split in ("train", "validation", "test"):
            ready_rows.write_jsonl(ready / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="module", params=[pytest.param("idefics3", marks=pytest.mark.real), "qwen2_5_vl"])
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an SFT policy. Not to be written to."""
    folder = tmp_path_factory.mktemp(request.param)
    project = make(folder / "project", tiny_vision.fetch(request.param, folder / "published", folder / "base"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        train_sft.main("sft-lora")
    return project


@pytest.fixture
def project(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to train in."""
    folder = tmp_path / "project"
    shutil.copytree(started, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    return folder


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of the check of the weights: digests by name, before and after, of frozen and trained tensors."""
    seen: dict[str, Any] = {}
    check = checks.check_weights_moved

    def spy(kind: WeightsKind, frozen: Any, trained: Any) -> None:
        seen.update(frozen=frozen, trained=trained)
        check(kind, frozen, trained)

    monkeypatch.setattr(checks, "check_weights_moved", spy)
    return seen


def run(project: Path, objective: str, **changes: Any) -> Path:
    """Train with changed params; the folder it wrote."""
    name = "sft-lora" if objective == "sft" else objective
    entry = PARAMS[objective][name] | changes | {"learning_rate": method_project.RATES[changes.get("weights", "lora")]}
    method_project.write_params(project, PARAMS | {objective: {"tuned": entry}})
    if objective == "dpo":
        reference.main("tuned")
    stages = {"sft": train_sft, "dpo": train_dpo, "kto": train_kto, "grpo": train_grpo, "reward": train_reward}
    stages[objective].main("tuned")
    return layout.MODELS / "tuned"


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("objective", ["sft", "dpo", "grpo"])
def test_only_the_language_model_moves_and_the_saved_model_sees(
    project: Path, moved: dict[str, Any], objective: str, kind: WeightsKind
) -> None:
    base_before = manifest.verify(layout.BASE)
    out = run(project, objective, weights=kind)
    assert manifest.verify(layout.BASE) == base_before

    (frozen, _), (trained, trained_after) = moved["frozen"], moved["trained"]
    of_vision = ("vision_model", "connector", "visual")
    assert any(part in name for name in frozen for part in of_vision)
    assert not any(part in name for name in trained for part in of_vision)
    assert sum(trained_after[name] != digest for name, digest in trained.items()) > len(trained) / 2
    assert lineage.read(out)["params"][objective]["tuned"]["vision"] == "frozen"
    start = journal.first(journal.read(out / journal.NAME), "start")
    assert start["largest_step"]["image_tokens"] > 0
    trainings, shape = document.load().trainings, model_shape.read("models/base")
    chosen, _ = plan_entries.plan("tuned", trainings, shape, hardware.detect())
    assert chosen.workload == workload.from_journal(start)  # the plan and the run agree

    dataset = {"sft": "answers", "dpo": "pairs", "grpo": "prompts"}[objective]
    opened = loading.open_model(out, layout.BASE, EXACT, images=[layout.images(dataset)])
    red, blue = (tiny_vision.draw(layout.images(dataset), [color]) for color in ("red", "blue"))
    examples = [chat.encode_example(opened.tokenizer, ask(*image), say("red")).split() for image in (red, blue)]
    one, other = likelihoods(opened, examples, batch_size=2)
    assert abs(one.log_prob - other.log_prob) > 1e-4
    rows: list[Row] = [{"prompt": ask(*image)} for image in (red, blue)]
    assert len(generation.answer(opened.model, opened.tokenizer, rows, max_new_tokens=4)) == 2


@pytest.mark.parametrize(("kind", "vision"), [("lora", "projector"), ("lora", "all"), ("full", "all")])
def test_what_sees_trains_where_it_is_asked_to(
    project: Path, moved: dict[str, Any], kind: WeightsKind, vision: str
) -> None:
    out = run(project, "sft", weights=kind, vision=vision)
    (_, trained_after), trained = moved["trained"], moved["trained"][0]
    changed = [name for name, digest in trained.items() if trained_after[name] != digest]
    projector = [name for name in changed if any(f".{part}." in name for part in ("connector", "merger"))]
    tower = [
        name for name in changed if any(part in name for part in ("vision_model", "visual")) and name not in projector
    ]
    assert projector
    assert bool(tower) is (vision == "all")
    saved = [name for file in out.glob("*.safetensors") for name in load_file(file)]
    assert any("connector" in name or "merger" in name for name in saved)
    trainable = journal.first(journal.read(out / journal.NAME), "end")["trainable_parameters"]
    chosen, _ = plan_entries.plan(
        "tuned", document.load().trainings, model_shape.read("models/base"), hardware.detect()
    )
    assert memory.trainable(model_shape.read("models/base"), chosen.workload) == trainable


def test_qlora_leaves_what_sees_unquantized_and_kto_trains_it(project: Path, moved: dict[str, Any]) -> None:
    run(project, "sft", weights="qlora")
    policy = loading.open_policy(layout.BASE, layout.BASE, EXACT, "qlora", Sft(dataset="answers").lora)
    packed = {name for name, values in policy.model.named_parameters() if values.dtype is torch.uint8}
    assert packed
    assert not any(part in name for name in packed for part in ("vision_model", "connector", "visual"))
    shutil.rmtree(layout.MODELS / "tuned")
    run(project, "kto", weights="full")
    assert any("vision_model" in name or "visual" in name for name in moved["trained"][0])


def test_the_mask_covers_the_answer_alone(project: Path) -> None:
    policy = loading.open_model(layout.BASE, layout.BASE, EXACT, images=[layout.images("answers")])
    file = layout.split("answers", "train")
    rows = ready_rows.read(file)
    examples = sft.encode(policy.tokenizer, rows, Sft(dataset="answers"), "sft.a", file)
    for each in rows:
        example = examples[each["id"]]
        trained = [token for token, counts in zip(example.input_ids, example.completion_mask, strict=True) if counts]
        assert policy.tokenizer.decode(trained) == f"{each['completion'][0]['content']}{policy.tokenizer.eos_token}"
        assert any(token >= FIRST_ID for token in example.input_ids) is (int(each["id"][7:]) % 5 > 0)
        assert all(token < FIRST_ID for token in trained)


def test_it_loads_with_plain_transformers_and_peft(project: Path) -> None:
    folder = layout.MODELS / "sft-lora"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain: Any = processor.open_processor(layout.BASE)
    if "idefics3" in (layout.BASE / "config.json").read_text():
        plain = AutoProcessor.from_pretrained(folder)
    else:  # whose whole processor needs torchvision, for videos
        plain.image_processor = AutoImageProcessor.from_pretrained(folder)
        plain.chat_template = (folder / "chat_template.jinja").read_text()
    weights = AutoModelForImageTextToText.from_pretrained(layout.BASE)
    model = PeftModel.from_pretrained(weights, folder).eval()
    [red] = tiny_vision.draw(layout.images("answers"), ["red"])
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What color?"}]}]
    text = plain.apply_chat_template(messages, add_generation_prompt=True)
    image = Image.open(layout.images("answers") / f"{red['image']}.png")
    made = plain(text=[text], images=[[image]], return_tensors="pt")
    output = model.generate(**made, max_new_tokens=6, do_sample=False, eos_token_id=tokenizer.eos_token_id)
    found = tokenizer.decode(output[0, made["input_ids"].shape[1] :])
    opened = loading.open_model(folder, layout.BASE, EXACT, images=[layout.images("answers")])
    assert generation.answer(opened.model, opened.tokenizer, [{"prompt": ask(red)}], max_new_tokens=6) == [found]


def test_a_reward_model_of_a_base_that_reads_images_is_refused(project: Path) -> None:
    with pytest.raises(ParamsError, match="a reward model reads text alone"):
        run(project, "reward")


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_recomputed_layers_see_the_same(project: Path, objective: str) -> None:
    losses = []
    for checkpointing in ("never", "always"):
        out = run(project, objective, vision="all", checkpointing=checkpointing)
        steps = journal.steps(journal.read(out / journal.NAME))
        losses.append([step["loss"] for step in steps])
        shutil.rmtree(out)
    assert losses[0][:2] == pytest.approx(losses[1][:2], rel=0.02)  # in bfloat16 where the processor computes in it


def test_an_adapter_is_merged_and_sees(project: Path) -> None:
    out = layout.MODELS / "merged"
    merge.merge(layout.MODELS / "sft-lora", layout.BASE, out, EXACT)
    images = [layout.images("answers")]
    [red] = tiny_vision.draw(layout.images("answers"), ["red"])
    answers = []
    for folder in (layout.MODELS / "sft-lora", out):
        opened = loading.open_model(folder, layout.BASE, EXACT, images=images)
        answers += generation.answer(opened.model, opened.tokenizer, [{"prompt": ask(red)}], max_new_tokens=6)
    assert answers[0] == answers[1]
    assert "AutoModelForImageTextToText" in (out / "README.md").read_text()


def test_vllm_writes_no_completions_to_images(project: Path) -> None:
    file = layout.split("prompts", "train")
    policy = loading.open_model(layout.BASE, layout.BASE, EXACT, images=[layout.images("prompts")])
    entry = Grpo(dataset="prompts", start="sft-lora", rewards={"number": 1.0}, rollouts={"engine": "vllm"})
    with pytest.raises(ParamsError, match="transformers alone sees"):
        rollouts.check(policy, ready_rows.read(file), entry, "grpo.a", file)


def test_it_learns_to_look_at_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out images in other shades: right, and no better than chance once they are exchanged among the rows."""
    entry = START | {"weights": "full", "vision": "all", "learning_rate": 0.005, "epochs": 30, "max_length": 256}
    base = tiny_vision.fetch("idefics3", tmp_path / "published", tmp_path / "base")
    project = method_project.make(tmp_path / "project", base, PARAMS | {"sft": {"seeing": entry}})
    ready, rows, draw = project / layout.READY / "answers", list[Row](), random.Random(0)
    for number in range(120):
        color = draw.choice(["red", "blue", "lime", "gray"])
        shade = [min(255, max(0, value + draw.randint(-40, 40))) for value in ImageColor.getrgb(color)[:3]]
        [image] = tiny_vision.draw(ready / "images", [f"#{bytes(shade).hex()}"])
        rows.append({"id": f"r{number}", "prompt": ask(image), "completion": say(color)})
    ready_rows.write_jsonl(ready / "train.jsonl", rows[:80])
    ready_rows.write_jsonl(ready / "validation.jsonl", rows[80:90])
    monkeypatch.chdir(project)
    train_sft.main("seeing")

    held_out = rows[80:]
    opened = loading.open_model(layout.MODELS / "seeing", layout.BASE, EXACT, images=[layout.images("answers")])
    expected = [ready_rows.reference(row) for row in held_out]

    def right(asked: list[Row]) -> float:
        answers = generation.answer(opened.model, opened.tokenizer, asked, max_new_tokens=8, special_tokens=False)
        return sum(map(str.__eq__, answers, expected)) / len(expected)

    assert right(held_out) > 0.9
    assert right(draw.sample(held_out, len(held_out))) < 0.5


def test_a_step_is_the_same_in_one_batch_and_in_several(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "detect", lambda: EXACT)
    losses = []
    for batch, accumulation in ((4, 1), (1, 4)):
        out = run(project, "sft", batch_size=batch, gradient_accumulation=accumulation)
        losses.append([step["loss"] for step in journal.steps(journal.read(out / journal.NAME))])
        shutil.rmtree(out)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
