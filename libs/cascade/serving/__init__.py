"""What every service shares: app factory, settings, problems, metrics, logs, micro-batching, hot reload."""
