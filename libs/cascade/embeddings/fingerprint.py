"""What a model is, as a hash."""

from __future__ import annotations

import hashlib

import torch


def fingerprint_of(model: torch.nn.Module, *settings: str) -> str:
    """The sha256 of a model's weights and of the settings that change what it gives, in hex."""
    digest = hashlib.sha256("\0".join(settings).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        # Read as bytes: NumPy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
