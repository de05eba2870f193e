"""Files of records: CSV, JSON, Parquet, packed ones, and guessing a schema from them. Pure.

Jobs and the define page import from here.
"""
