"""The retrieval service: from the whole catalog to a few hundred candidates."""
