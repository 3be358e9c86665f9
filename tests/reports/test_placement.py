import itertools

import pytest

from tunesmith.reports.axes import Place, place, shared

NAMES = ["base", "sft-lora", "sft-qlora", "sft-full", "dpo", "rlhf", "grpo", "sft-lora-2"]
BOUNDS = (40, 0, 360, 260)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param([(200, 130)] * 8, id="all in one place"),
        pytest.param([(300, 60 + 7 * number) for number in range(8)], id="one column"),
        pytest.param([(100 + 9 * number, 130) for number in range(8)], id="one row"),
        pytest.param([(345, 20), (345, 24), (50, 250)], id="in the corners"),
    ],
)
def test_labels_cover_no_other_and_stay_inside(points: list[Place]) -> None:
    labels = place(dict(zip(NAMES, points, strict=False)), [], BOUNDS)
    assert [label.text for label in labels] == NAMES[: len(points)]
    for one, other in itertools.combinations(labels, 2):
        assert shared(one.box, other.box) == 0, (one, other)
    for label in labels:
        assert shared(label.box, BOUNDS) == pytest.approx(shared(label.box, label.box))


def test_a_label_makes_room_for_what_is_drawn() -> None:
    (label,) = place({"dpo": (200, 130)}, [(205, 120, 260, 140)], BOUNDS)
    assert label.anchor == "end"
