"""`python -m services.ranker`: the service in a process of its own."""

from __future__ import annotations

from cascade.serving.run import serve
from cascade.serving.threads import limit_process
from services.ranker.settings import RankerSettings

if __name__ == "__main__":
    settings = RankerSettings()
    limit_process(settings.threads)
    from services.ranker.app import create_app  # after it: BLAS reads its number of threads when it is loaded

    serve(create_app(settings), settings)
