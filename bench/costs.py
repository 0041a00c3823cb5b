"""What the stages of a request must compute and move, by hand from the configurations.

FLOPs count a multiplication and an addition each: 2 for each weight of a layer and row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cascade.models.dlrm import DlrmConfig
from cascade.models.dlrm_split import Widths
from cascade.models.two_tower import TwoTowerConfig

FLOAT = 4
"""bytes"""


def _layers(widths: Sequence[int]) -> int:
    """Multiplications of a network of linear layers, for one row."""
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def dlrm_row_flops(config: DlrmConfig) -> int:
    """Of `Dlrm.forward`, for one row: both networks, two projections, every pair's dot product once; what an event
    counts is left out, which is a request's."""
    vectors = len(config.cardinalities) + 3
    pairs = vectors * (vectors - 1) // 2
    bottom = _layers((config.continuous, *config.bottom, config.dim))
    projections = (config.image_dim + config.text_dim) * config.dim
    interactions = pairs * config.dim
    top = _layers((config.dim + pairs + config.matches, *config.top, 1))
    return 2 * (bottom + projections + interactions + _kernel_sums(config) + _attention(config, at_once=False) + top)


def _kernel_sums(config: DlrmConfig) -> int:
    """Multiplications of match features, for one item and a whole history: each kernel's sum in each field."""
    kernels = config.share_kernels + config.count_kernels
    return config.history_length * kernels * len(config.item_cardinalities)


def _attention(config: DlrmConfig, *, at_once: bool) -> int:
    """Multiplications of target attention, for one item: with each event two products a head; and a head's two
    matrices, which are a request's where its items come at once."""
    matrices = 0 if at_once else config.attention_dim
    return 2 * config.attention_heads * config.attention_dim * (config.history_length + matrices)


def packed_row_flops(config: DlrmConfig) -> int:
    """Of `PackedScorer`, for one row: what depends on request and item both."""
    widths = Widths.of(config)
    # the item's columns of the bottom network's first layer, then its other layers whole
    bottom = _layers((widths.item_continuous + 1, *config.bottom, config.dim))
    # an item's vectors with the request's, and with dense
    interactions = widths.item * (widths.request + 1) * widths.dim
    # K columns in place of all pairs: request·request and dense·request are in the matrix, not in the row
    top = _layers((widths.over, *config.top, 1))
    return 2 * (bottom + interactions + _attention(config, at_once=True) + top)


def packed_request_flops(config: DlrmConfig) -> int:
    """Of `PackedScorer`, once a request: the matrix of the top network's first layer, request·request, and of a history
    the kernels' sums for each event's values and the products of the heads' matrices with each event."""
    widths = Widths.of(config)
    hidden = (*config.top, 1)[0]
    amounts = (config.matches - widths.matches) * hidden
    sums = config.history_length * (_kernel_sums(config) + 2 * config.attention_heads * config.attention_dim**2)
    return 2 * (widths.dim * widths.request * hidden + widths.request**2 * (widths.dim + hidden) + amounts + sums)


def packed_row_bytes(config: DlrmConfig) -> int:
    """Gathered for one row: read from the table and written beside the others."""
    return 2 * Widths.of(config).bytes_per_item


def query_tower_flops(config: TwoTowerConfig, embedding_widths: Sequence[int]) -> int:
    """For one user."""
    return 2 * _layers((sum(embedding_widths) + config.user_continuous, *config.hidden, config.dim))


def flat_search_flops(vectors: int, dim: int) -> int:
    """For one query against every vector."""
    return 2 * vectors * dim


def flat_search_bytes(vectors: int, dim: int) -> int:
    """Read for one query."""
    return FLOAT * vectors * dim
