"""What one of several processes computes with of weights that it holds a shard of."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_vision
import torch
import torch.distributed as dist
from profiles import EXACT
from torch.testing._internal.distributed.fake_pg import FakeStore

from tunesmith.models import collectives, loading

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(params=["text", "idefics3"])
def base(request: pytest.FixtureRequest, tied_base: Path, tmp_path: Path) -> Path:
    """A base whose embedding is its output head too."""
    if request.param == "text":
        return tied_base
    return tiny_vision.fetch(request.param, tmp_path / "published", tmp_path / "base")


@pytest.fixture
def last_of_three(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose shard has the fewest rows, so that it is padded. The others are not there."""
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    dist.init_process_group("fake", rank=2, world_size=3, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_tied_modules_compute_with_what_the_optimizer_wrote(base: Path, last_of_three: None) -> None:
    model = loading.open_model(base, base, replace(EXACT, sharded=True)).model
    model(IDS)
    collectives.reshard(model)
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    assert ends[0].weight is ends[1].weight
    with torch.no_grad():
        own = collectives.own(ends[0].weight.add_(1)).clone()
    assert len(own) < -(-len(ends[0].weight) // 3)
    model(IDS)
    for module in ends:
        assert torch.equal(module.weight[-len(own) :], own)
