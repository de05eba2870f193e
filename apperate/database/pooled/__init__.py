"""Django's PostgreSQL backend with a pool that hands out no dead connection.

An ENGINE of the settings; the backend of the embedded server builds on it.
"""
