"""The data API: admission to datasets, reading, batches, writing, catalog, jobs, routes.

Only the URLs import from here. Reading and batches import no services and no pages.
"""
