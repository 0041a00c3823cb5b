"""Training, offline evaluation, baselines and metrics."""
