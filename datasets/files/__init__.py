"""Files of records: CSV, JSON, Parquet, compressed ones, and inferring a schema from them. Pure.

Whatever reads a file imports from here: jobs, the API, services and the pages.
"""
