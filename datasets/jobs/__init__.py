"""Ingestion and other long work: making jobs, queueing, running and watching them.

The API, pages and commands import from here.
"""
