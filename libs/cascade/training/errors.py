"""Errors of training and evaluation.

TrainingError
├── TrainingInputError     rows, items or settings that cannot be trained on
├── TrainingDivergedError  the loss became NaN or infinite
├── TrainingStalledError   the loss did not fall
├── CheckpointError        a checkpoint that cannot be read
├── TrainingProcessError   one of the processes that train together failed
├── MetricInputError       scores, labels or k that a metric is not defined for
└── EvaluationError        a dataset or bundle that cannot be evaluated
"""

from cascade.errors import CascadeError


class TrainingError(CascadeError):
    """Base of the errors of cascade.training."""


class TrainingInputError(TrainingError):
    """Rows, items or settings that cannot be trained on."""


class TrainingDivergedError(TrainingError):
    """The loss became NaN or infinite; the weights are worthless from there on."""


class TrainingStalledError(TrainingError):
    """The loss did not fall: nothing was learned."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be read."""


class TrainingProcessError(TrainingError):
    """One of the processes that train together failed, or was killed; all of them were stopped."""


class MetricInputError(TrainingError):
    """A metric was given scores, labels or a k it is not defined for."""


class EvaluationError(TrainingError):
    """A dataset or a pair of bundles cannot be evaluated."""
