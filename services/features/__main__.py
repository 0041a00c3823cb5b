"""`python -m services.features`: the worker in a process of its own."""

from __future__ import annotations

from cascade.serving.run import serve
from cascade.serving.threads import limit_process
from services.features.memory import use_system_allocator

use_system_allocator()
limit_process(1)  # likewise before what it bounds is imported

from services.features.app import create_app  # noqa: E402
from services.features.settings import FeaturesSettings  # noqa: E402

if __name__ == "__main__":
    settings = FeaturesSettings()
    serve(create_app(settings), settings)
