"""Feast's view of the user features."""
