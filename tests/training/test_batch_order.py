from tunesmith.training import batch_order


def test_every_example_is_in_each_epoch_once_in_batches_of_similar_length() -> None:
    examples = [(number, number % 37) for number in range(103)]
    order = batch_order.in_batches(examples, lambda example: example[1], 4, seed=1, epochs=3)
    assert sorted(order) == sorted(3 * examples)
    for epoch in range(3):  # but for the batches in which one epoch ends and the next begins
        begin, end = 103 * epoch + 64, 103 * (epoch + 1) - 64
        assert len(set(order[begin:end])) == max(end - begin, 0)
    lengths = [length for _, length in order]
    spreads = [max(batch) - min(batch) for batch in zip(*[iter(lengths)] * 4, strict=False)]
    assert sum(spreads) / len(spreads) < 5
    assert order == batch_order.in_batches(examples, lambda example: example[1], 4, seed=1, epochs=3)
    assert order != batch_order.in_batches(examples, lambda example: example[1], 4, seed=2, epochs=3)


def test_examples_are_drawn_again_only_when_all_were() -> None:
    order = batch_order.drawn(range(5), 12, seed=1)
    assert [sorted(order[begin : begin + 5]) for begin in (0, 5)] == [[0, 1, 2, 3, 4]] * 2
    assert len(order) == 12
    assert order[:5] != order[5:10]
