"""Who may ask what: API keys, kept as hashes."""
