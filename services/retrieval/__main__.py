"""`python -m services.retrieval`: the service in a process of its own."""

from __future__ import annotations

from cascade.serving.run import serve
from cascade.serving.threads import limit_process
from services.retrieval.settings import RetrievalSettings

if __name__ == "__main__":
    settings = RetrievalSettings()
    limit_process(settings.threads)
    from services.retrieval.app import create_app  # after it: BLAS reads its number of threads when it is loaded

    serve(create_app(settings), settings)
