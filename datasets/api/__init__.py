"""The data API: admitting a request to a dataset, reading, batches, writing, catalog, jobs, routes.

Only the URLs import from here. Reading and batches import no services and no pages.
"""
