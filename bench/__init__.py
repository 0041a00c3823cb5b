"""How fast Cascade is, measured: `make bench`, or `python -m bench AREA …`."""
