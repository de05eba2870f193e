"""Ingestion and other long work: making a job, the queue, running it, watching it.

The API, pages and commands import from here.
"""
