"""Fitted transforms and point-in-time features: the same code in training and in serving."""
