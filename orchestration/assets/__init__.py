"""One file a group of assets; each asset fetches, calls the library, stores and reports."""
