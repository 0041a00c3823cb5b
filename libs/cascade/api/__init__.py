"""Typed requests and responses: what travels between a client, the gateway and the services."""
