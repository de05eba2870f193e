"""The last release, from the history of this checkout, and databases to migrate.

Imported by the tests of migrations.
"""
