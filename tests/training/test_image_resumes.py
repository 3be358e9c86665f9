"""Trainings with images that break off and go on among other images end in the weights of those that did not."""

import shutil
from pathlib import Path
from typing import Any

import method_project
import mortal_trainings
import pytest
import tiny_vision
from training import test_image_trainings as trainings

from stages import reference, train_dpo, train_grpo, train_sft
from tunesmith.core import layout
from tunesmith.training.checkpointer import Checkpointer
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

PARAMS: dict[str, Any] = trainings.PARAMS | {
    "grpo": {"grpo": trainings.PARAMS["grpo"]["grpo"] | {"steps": 3, "eval_steps": 2}},
}
STAGES = {"sft-lora": train_sft, "dpo": train_dpo, "grpo": train_grpo}


class BrokenOffError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("kind", [pytest.param("idefics3", marks=pytest.mark.real), "qwen2_5_vl"])
def test_a_training_that_goes_on_among_other_images_ends_in_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other images have other places among the digests, so no id of an image may outlive a process."""
    base = tiny_vision.fetch(kind, tmp_path / "published", tmp_path / "base")
    whole, broken = trainings.make(tmp_path / "whole", base), tmp_path / "broken"
    method_project.write_params(whole, PARAMS)
    monkeypatch.setenv(layout.CHECKPOINT_VARIABLE, "0")
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    monkeypatch.chdir(whole)
    shutil.copytree(whole, broken)
    datasets, save = {"sft-lora": "answers", "dpo": "pairs", "grpo": "prompts"}, Checkpointer.on_save

    def break_off(self: Checkpointer, *arguments: Any, **settings: Any) -> None:
        save(self, *arguments, **settings)
        raise BrokenOffError

    for name, stage in STAGES.items():
        for project in (whole, broken):
            monkeypatch.chdir(project)
            if name == "dpo":
                reference.main(name)
            if project == whole:
                stage.main(name)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpointer, "on_save", break_off)
            with pytest.raises(BrokenOffError):
                stage.main(name)
        for number in range(8):  # digests before, between and after the others
            tiny_vision.draw(layout.images(datasets[name]), [f"#{number:02x}8040"])
        capsys.readouterr()
        stage.main(name)
        assert "going on from the checkpoint of step 1" in capsys.readouterr().out
        assert mortal_trainings.outcome(broken, name) == mortal_trainings.outcome(whole, name)
