"""Two versions on one database: the files of the last release, a load on both, and databases to migrate.

Imported by the tests of migrations and of an upgrade, and by the benchmark that migrates a million records.
"""
