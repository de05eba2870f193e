"""The SQL that runs on records, and the accounting of their storage.

Reads of the data plane, jobs and services import from here; it never imports them.
"""
