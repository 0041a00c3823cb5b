"""Errors of the networks and their files.

ModelError
├── ModelConfigError   a configuration that describes no network
├── ModelInputError    arrays that do not fit the network
├── DeviceError        a device that is unknown or absent
└── ModelFileError     a saved network that is absent, damaged or of another kind
    └── ModelFormatError   a saved network of a newer format than this release reads
"""

from cascade.errors import CascadeError


class ModelError(CascadeError):
    """Base of the errors of cascade.models."""


class ModelConfigError(ModelError):
    """A configuration holds a value no network can be built from."""


class ModelInputError(ModelError):
    """An input array has the wrong shape, or a row that the embedding table does not hold."""


class ModelFileError(ModelError):
    """A saved network cannot be read: a file is missing, damaged, or belongs to another model."""


class ModelFormatError(ModelFileError):
    """A saved network was written by a newer release."""


class DeviceError(ModelError):
    """A device that torch does not know, or that this machine does not have."""
