from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.embeddings.clip_batches import caption_groups, epoch_batches, split_by_caption

captions = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(lambda ids: np.array(ids, dtype=np.int64))


def test_equal_token_rows_are_one_caption() -> None:
    tokens = np.array([[1, 2, 0], [1, 3, 0], [1, 2, 0], [2, 1, 0]])
    assert caption_groups(tokens).tolist() == [0, 1, 0, 2]


@given(groups=captions, batch_size=st.integers(1, 50), seed=st.integers(0, 2**32))
def test_no_batch_holds_a_caption_twice_and_no_row_comes_twice(groups: np.ndarray, batch_size: int, seed: int) -> None:
    rows = np.flatnonzero(groups % 3 != 0)
    batches = epoch_batches(rows, groups, batch_size, seed, epoch=0)
    seen = np.concatenate(batches) if batches else np.zeros(0, dtype=np.int64)
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(rows.tolist())
    for batch in batches:
        assert len(set(groups[batch].tolist())) == len(batch) <= batch_size
    sizes = [len(batch) for batch in batches]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    # Only what cannot be spread over the batches sits out.
    _, counts = np.unique(groups[rows], return_counts=True)
    assert len(seen) == np.minimum(counts, len(batches)).sum()


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    rows, groups = np.arange(100), np.arange(100)

    def of(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in epoch_batches(rows, groups, 32, seed, epoch)]

    assert of(1, 0) == of(1, 0)
    assert of(1, 0) != of(1, 1)
    assert of(1, 0) != of(2, 0)


@given(
    groups=captions.filter(lambda groups: len(set(groups.tolist())) >= 3),
    share=st.floats(0.0, 1.0),
    at_most=st.integers(1, 50),
    seed=st.integers(0, 2**32),
)
def test_a_caption_is_held_out_whole(groups: np.ndarray, share: float, at_most: int, seed: int) -> None:
    split = split_by_caption(groups, share, at_most, seed)
    assert sorted([*split.train.tolist(), *split.held_out.tolist()]) == list(range(len(groups)))
    assert not set(groups[split.train].tolist()) & set(groups[split.held_out].tolist())
    assert len(split.held_out) >= 1
    assert len(set(groups[split.train].tolist())) >= 2


def test_about_the_share_is_held_out() -> None:
    assert len(split_by_caption(np.arange(1000), 0.1, 10_000, seed=0).held_out) == 100
    assert len(split_by_caption(np.arange(1000), 0.1, 30, seed=0).held_out) == 30
