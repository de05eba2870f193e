"""Files of records: CSV, JSON, Parquet, packed ones, and guessing a schema from them. Pure.

Whatever reads a file imports from here: jobs, the API, services and the pages.
"""
