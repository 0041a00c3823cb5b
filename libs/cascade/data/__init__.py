"""A shop's data: the contract of a dataset folder, its validation, the built-in shop, and importers."""
