"""`python -m services.features`: the worker in a process of its own."""

from __future__ import annotations

import warnings

from cascade.serving.run import serve
from cascade.serving.threads import limit_process
from services.features.app import create_app
from services.features.settings import FeaturesSettings

if __name__ == "__main__":
    settings = FeaturesSettings()
    limit_process(1)
    app = create_app(settings)
    # Feast shows every deprecation of the ibis it uses, at each push; the log is JSON
    warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
    serve(app, settings)
