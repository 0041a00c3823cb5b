"""Dagster: everything the services serve, as software-defined assets."""
