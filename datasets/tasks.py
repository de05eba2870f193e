"""What the queue can run. Every process imports this module, so a worker knows each task by name."""

from datasets.jobs import ingest, retry_stalled

__all__ = ["ingest", "retry_stalled"]
