"""The features worker: what visitors did becomes fresh features within a second, and Parquet exactly once."""
