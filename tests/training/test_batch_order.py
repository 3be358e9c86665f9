import pytest

from tunesmith.training import batch_order


@pytest.mark.parametrize(("number", "batch_size"), [(103, 4), (40, 8), (64, 8), (9, 8), (8, 8), (17, 1)])
def test_every_example_is_in_each_epoch_once_and_in_no_batch_twice(number: int, batch_size: int) -> None:
    order = batch_order.in_batches(range(number), lambda example: example % 7, batch_size, seed=1, epochs=3)
    for epoch in range(3):
        assert sorted(order[number * epoch : number * (epoch + 1)]) == [*range(number)]
    for begin in range(0, len(order), batch_size):
        batch = order[begin : begin + batch_size]
        assert len({*batch}) == len(batch)
    assert order[:number] != order[number : 2 * number]
    assert order == batch_order.in_batches(range(number), lambda example: example % 7, batch_size, seed=1, epochs=3)
    assert order != batch_order.in_batches(range(number), lambda example: example % 7, batch_size, seed=2, epochs=3)


def test_batches_are_of_similar_length() -> None:
    order = batch_order.in_batches(range(200), lambda example: example % 37, 4, seed=1, epochs=2)
    lengths = [example % 37 for example in order]
    spreads = [max(batch) - min(batch) for batch in zip(*[iter(lengths)] * 4, strict=False)]
    assert sum(spreads) / len(spreads) < 5


def test_examples_are_drawn_again_only_when_all_were() -> None:
    order = batch_order.drawn(range(5), 12, seed=1)
    assert [sorted(order[begin : begin + 5]) for begin in (0, 5)] == [[0, 1, 2, 3, 4]] * 2
    assert len(order) == 12
    assert order[:5] != order[5:10]
