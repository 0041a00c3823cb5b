"""`python -m services.filter`: the service in a process of its own."""

from __future__ import annotations

from cascade.serving.run import serve
from services.filter.app import create_app
from services.filter.settings import FilterSettings

if __name__ == "__main__":
    settings = FilterSettings()
    serve(create_app(settings), settings)
