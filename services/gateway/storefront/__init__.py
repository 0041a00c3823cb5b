"""The storefront: the page at `/` and what it asks for besides the public API. For people inside the shop."""
