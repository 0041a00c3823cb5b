"""The deployables of Cascade. None imports another."""
