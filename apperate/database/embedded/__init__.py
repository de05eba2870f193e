"""The PostgreSQL that `manage.py up` runs when there is no DATABASE_URL.

Only the database settings and the code that runs the product import from here.
"""
