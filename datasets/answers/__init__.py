"""Records as bytes: JSON, CSV, JSONP, Parquet. Pure.

The API and exports import from here.
"""
