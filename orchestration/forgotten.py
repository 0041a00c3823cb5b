"""Forgotten users, kept out of what the next fine-tuning learns from.

Their rows are gone from the dataset and from files with ids. Encoded sets hold rows of a vocabulary instead: those of
forgotten users are found by the vocabulary's ids. Rows whose user was hidden when the set was made are nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from redis import Redis

from cascade.features.training_set import TrainingSet
from cascade.features.transforms import UserTransform
from cascade.privacy.suppression import Suppression, digest_of
from orchestration.workspace import Workspace

_USER = 0  # the first categorical of a user


@dataclass(frozen=True)
class Forgotten:
    """digests: SHA-256 of the ids, as the suppression list holds them."""

    digests: frozenset[str]

    @classmethod
    def of(cls, workspace: Workspace) -> Forgotten:
        """As of now. Raises what Redis raises: nothing is learned without knowing who is not to be learned from."""
        with Redis.from_url(workspace.settings.redis()) as client:
            return cls(Suppression(client).digests())

    def out_of(self, rows: pa.Table) -> pa.Table:
        """The rows of the others: a table with a column `user_id`."""
        if not self.digests:
            return rows
        users = rows.column("user_id").to_pylist()
        gone = {user for user in set(users) if user is not None and digest_of(user) in self.digests}
        return rows.filter(pa.array([user not in gone for user in users])) if gone else rows

    def out_of_set(self, rows: TrainingSet, users: UserTransform) -> TrainingSet:
        """The encoded rows of the others. users: what encoded them."""
        if not self.digests:
            return rows
        known = [user for user in users.user_ids.values if digest_of(user) in self.digests]
        if not known:
            return rows
        return rows.take(np.flatnonzero(~np.isin(rows.user.categorical[:, _USER], users.user_ids.rows(known))))
