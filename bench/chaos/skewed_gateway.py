"""`python -m bench.chaos.skewed_gateway SECONDS`: the gateway on a machine whose clock is off by so much."""

from __future__ import annotations

import sys
import time

from cascade.serving.run import serve
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    skew_s, settings = float(sys.argv[1]), GatewaySettings()
    serve(create_app(settings, clock=lambda: time.time() + skew_s), settings)
