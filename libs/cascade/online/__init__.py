"""What lives in Redis: keys, Bloom filter of seen items, the interaction step, popularity, user features."""
