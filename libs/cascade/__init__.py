"""Cascade: what training and serving of a multistage, multimodal recommender share."""
