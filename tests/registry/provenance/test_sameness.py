"""A rebuilt model is compared by bytes, by lineage and by scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.manifest import Manifest
from tunesmith.registry.provenance import sameness
from tunesmith.registry.provenance.sameness import Change, ScoreComparison

CPU = {"device": "AMD EPYC x 2, bfloat16", "machine": "x86_64", "system": "Linux"}
ENVIRONMENT: dict[str, Any] = {"lock_sha256": "l", "image_digest": None, "libraries": {"torch": "2.13.0"}}
ORIGIN: dict[str, Any] = {
    "created": "then",
    "command": ["train.py"],
    "code": {"commit": "c0ffee"},
    "hardware": CPU,
    "environment": ENVIRONMENT,
    "parents": {"sft": {"digest": "p1", "weights_digest": "w"}},
    "inputs": {"data/ready/demo/train.jsonl": {"sha256": "d1", "dvc": "md5:1"}},
}
FILES = {"adapter_model.safetensors": "w1", "tokenizer.json": "t1", "training.jsonl": "j1", "lineage.json": "l1"}


def files(**changed: str | None) -> Manifest:
    """A manifest with changed digests; a file name is written with `__` for `.`, and None removes the file."""
    named = {name.replace("__", "."): digest for name, digest in changed.items()}
    kept = {name: digest for name, digest in (FILES | named).items() if digest is not None}
    return Manifest({name: {"sha256": digest, "bytes": 1} for name, digest in kept.items()})


def compare(now: Manifest, **changes: Any) -> sameness.FileComparison:
    return sameness.compare(files(), now, ORIGIN, ORIGIN | changes)


def test_the_same_weights_under_another_journal_are_the_same_model() -> None:
    comparison = compare(files(training__jsonl="j2", lineage__json="l2"), created="now", command=["other"])
    assert comparison.identical
    assert comparison.expected == ("lineage.json", "training.jsonl")
    assert (comparison.differ, comparison.origin) == ((), ())


@pytest.mark.parametrize(
    ("changed", "differ"),
    [
        ({"adapter_model__safetensors": "w2"}, ("adapter_model.safetensors",)),
        ({"tokenizer__json": "t2"}, ("tokenizer.json",)),
        ({"tokenizer__json": None}, ("tokenizer.json (only then)",)),
        ({"odd__json": "o"}, ("odd.json (only now)",)),
        ({"training__jsonl": None}, ("training.jsonl (only then)",)),
    ],
)
def test_any_other_file_that_differs_makes_it_another_model(
    changed: dict[str, str | None], differ: tuple[str, ...]
) -> None:
    comparison = compare(files(**changed))
    assert not comparison.identical
    assert comparison.differ == differ


BASED = {"base_model_name_or_path": "/home/a/models/base", "revision": None, "r": 4}


@pytest.mark.parametrize(
    ("changes", "alone"),
    [
        ({"base_model_name_or_path": "/home/b/models/base"}, True),
        ({"base_model_name_or_path": "/home/b/models/base", "r": 8}, False),
        ({"base_model_name_or_path": "team/tiny", "revision": "0123"}, False),
        ({}, False),
    ],
)
def test_a_local_base_in_another_folder_is_no_other_model(
    tmp_path: Path, changes: dict[str, object], alone: bool
) -> None:
    for folder, config in (("then", BASED), ("now", BASED | changes)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / sameness.CONFIG).write_text(json.dumps(config))
    assert sameness.based_elsewhere(tmp_path / "then", tmp_path / "now") is alone
    now = files(adapter_config__json="c2")
    compared = sameness.compare(files(adapter_config__json="c1"), now, ORIGIN, ORIGIN, elsewhere=alone)
    assert compared.identical is alone


def test_a_folder_without_weights_is_never_the_same_model() -> None:
    empty = Manifest({"tokenizer.json": {"sha256": "t", "bytes": 1}})
    assert not sameness.compare(empty, empty, ORIGIN, ORIGIN).identical


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"environment": ENVIRONMENT | {"lock_sha256": "m"}}, [Change("environment.lock_sha256", "l", "m")]),
        ({"hardware": CPU | {"system": "Darwin"}}, [Change("hardware.system", "Linux", "Darwin")]),
        ({"parents": {"sft": {"digest": "p2", "weights_digest": "w"}}}, []),
        (
            {"parents": {"sft": {"digest": "p2", "weights_digest": "v"}}},
            [Change("parents.sft.digest", "p1", "p2"), Change("parents.sft.weights_digest", "w", "v")],
        ),
        ({"inputs": {}}, None),
    ],
)
def test_the_differences_of_two_lineages_are_named(changes: dict[str, Any], expected: list[Change] | None) -> None:
    differences = sameness.changes(ORIGIN, ORIGIN | changes)
    if expected is None:
        assert {(change.then, change.now) for change in differences} == {("d1", None), ("md5:1", None)}
    else:
        assert differences == expected


@pytest.mark.parametrize(
    ("changes", "exact"),
    [
        ({}, True),
        ({"hardware": CPU | {"device": "AMD EPYC x 4, bfloat16"}}, False),
        ({"environment": ENVIRONMENT | {"libraries": {"torch": "2.14.0"}}}, False),
        ({"code": {"commit": "c0ffee", "package": "another"}}, False),
    ],
)
def test_bytes_should_be_equal_on_the_same_cpu_with_the_same_libraries(changes: dict[str, Any], exact: bool) -> None:
    assert compare(files(), **changes).exact is exact


def test_on_a_gpu_bytes_need_not_be_equal() -> None:
    gpu = ORIGIN | {"hardware": CPU | {"device": "NVIDIA H200"}}
    assert not sameness.compare(files(), files(), gpu, gpu).exact


def scores(*right: int) -> dict[str, float]:
    return {str(number): float(value) for number, value in enumerate(right)}


def test_the_noise_floor_is_the_largest_change_of_the_base_against_itself() -> None:
    base, repeats = scores(1, 0, 0, 0), [scores(1, 0, 0, 0), scores(0, 1, 1, 0)]
    [measured] = sameness.measure({"s": scores(1, 1, 0, 0)}, {"s": scores(1, 0, 1, 1)}, {"s": base}, {"s": repeats})
    assert measured == ScoreComparison("s", then=0.5, now=0.75, floor=0.25, flipped=0.75)
    assert measured.within


def test_without_a_measured_floor_only_an_equal_score_is_within() -> None:
    [measured] = sameness.measure({"s": scores(1, 0)}, {"s": scores(0, 1)}, {"s": scores(1, 1)}, {})
    assert (measured.floor, measured.within) == (None, True)
    [measured] = sameness.measure({"s": scores(1, 0)}, {"s": scores(1, 1)}, {"s": scores(1, 1)}, {})
    assert not measured.within


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"s": scores(1), "code": scores(1)}, {"s": scores(1)}),
        ({"s": scores(1)}, {"s": scores(1), "code": scores(1)}),
        ({"s": scores(1, 1, 1)}, {"s": scores(1)}),
        ({"s": {"a": 1.0}}, {"s": {"b": 1.0}}),
    ],
)
def test_prompts_graded_for_only_one_model_prevent_a_match(then: Any, now: Any) -> None:
    base = {"s": scores(1, 1, 1), "code": scores(1)}
    assert not all(measured.within for measured in sameness.measure(then, now, base, {"s": [scores(1, 1, 1)]}))


def test_a_sample_that_is_not_gradable_has_no_score() -> None:
    sample = {"suite": "s", "row": {"id": "1"}, "score": 1.0, "status": "scored"}
    assert sameness.scores([sample, sample | {"row": {"id": "2"}, "status": "not_gradable", "score": None}]) == {
        "s": {"1": 1.0}
    }
