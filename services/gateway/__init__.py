"""The gateway: the public API, and the one place that knows the order of the stages."""
