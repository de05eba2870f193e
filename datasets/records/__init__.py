"""What a record is: schema, checking one, coercing values. Pure.

Everything about datasets may import from here.
"""
