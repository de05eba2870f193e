"""The queue's tasks. Every process imports this module, so that a worker knows each task by name."""

from datasets.jobs.queue import check_audit_log, ingest, purge_files, retry_stalled

__all__ = ["check_audit_log", "ingest", "purge_files", "retry_stalled"]
