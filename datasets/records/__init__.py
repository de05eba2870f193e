"""Records: the schema, checking a record, coercing values. Pure.

Everything about datasets may import from here.
"""
