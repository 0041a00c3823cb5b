"""`python -m services.gateway`: the gateway in a process of its own."""

from __future__ import annotations

from cascade.serving.run import serve
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    settings = GatewaySettings()
    serve(create_app(settings), settings)
