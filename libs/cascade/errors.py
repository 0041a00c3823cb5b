"""The root of Cascade's error tree.

CascadeError
├── data.errors        a dataset folder, generator or importer was given something it cannot use
├── drift.errors       references that cannot be read or compared with
├── features.errors    transforms, vocabularies, feature files
├── embeddings.errors  encoders and their weights
├── models.errors     networks, their configurations and weights
├── training.errors    training, evaluation, checkpoints
├── index.errors       the candidate index
├── store.errors       bundles, versions, aliases
├── online.errors      Redis and what lives in it
├── capacity.errors    what cannot be planned
├── client.errors      answers of a gateway, and none
└── serving.errors     requests between services
"""


class CascadeError(Exception):
    """Base of every error Cascade raises on purpose; the message names the value received and the way out."""
