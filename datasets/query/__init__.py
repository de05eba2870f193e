"""A query on records: parameters, parsing, filters, cursors. Pure.

Storage turns it into SQL; the API and the pages parse it.
"""
