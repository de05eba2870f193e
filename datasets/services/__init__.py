"""Services that change a dataset or its records: create, edit, write, delete, restore.

The API, jobs and pages import from here; reading does not.
"""
