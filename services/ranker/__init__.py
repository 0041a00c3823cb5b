"""The ranker service: candidates to click probabilities, ordered or sampled for diversity."""
