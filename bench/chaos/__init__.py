"""Faults on purpose: real processes on loopback, under load, with something broken; what held is written down.

`python -m bench.chaos [ROW …]`, or `make chaos ROW=…`; the table is docs/reliability.md.
"""
