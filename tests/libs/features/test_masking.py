from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.errors import FeatureInputError
from cascade.features.masking import devices_to_mask, mask_devices, mask_users, users_to_mask
from cascade.features.spec import Encoded


def ones(rows: int, categorical: int, continuous: int) -> Encoded:
    return Encoded(np.ones((rows, categorical), np.int32), np.ones((rows, continuous), np.float32))


@given(seed=st.integers(0, 2**63), share=st.floats(0, 1), rows=st.integers(0, 200))
def test_a_users_columns_go_together_and_the_input_stays(seed: int, share: float, rows: int) -> None:
    user = ones(rows, 4, 1)
    masked = mask_users(user, share, seed)
    hidden = users_to_mask(rows, share, seed)
    assert user.categorical.all()
    assert (masked.categorical[hidden][:, [0, 1, 3]] == 0).all()
    assert masked.categorical[~hidden].all()
    assert masked.categorical[:, 2].all(), "the age bucket stays"
    assert masked.continuous.all()


def test_shares_are_met_apart_and_by_seed() -> None:
    users, devices = users_to_mask(100_000, 0.05, 3), devices_to_mask(100_000, 0.05, 3)
    assert 0.045 < users.mean() < 0.055
    assert 0.045 < devices.mean() < 0.055
    assert 0.001 < (users & devices).mean() < 0.004, "independent although of one seed"
    assert (users == users_to_mask(100_000, 0.05, 3)).all()
    assert (users != users_to_mask(100_000, 0.05, 4)).any()
    # A longer set begins with the same choice.
    assert (users_to_mask(1000, 0.05, 3) == users[:1000]).all()


def test_devices() -> None:
    context = ones(1000, 1, 4)
    masked = mask_devices(context, 0.5, 1)
    assert ((masked.categorical[:, 0] == 0) == devices_to_mask(1000, 0.5, 1)).all()
    assert context.categorical.all()


@pytest.mark.parametrize(("share", "hidden"), [(0.0, 0), (1.0, 50)])
def test_nothing_and_everything(share: float, hidden: int) -> None:
    assert users_to_mask(50, share, 0).sum() == hidden


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(FeatureInputError, match="between 0 and 1"):
        mask_users(ones(1, 4, 1), share, 0)
