"""Forgetting a user: who may not come back, what was asked, what is removed where, and the receipt of it."""
