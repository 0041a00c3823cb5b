"""Drift: what models are served with now against what they were trained on, by histograms and their stability index."""
