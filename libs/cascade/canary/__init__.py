"""The judge of a model canary: sequential tests, where their evidence comes from, and the loop that acts on them."""
