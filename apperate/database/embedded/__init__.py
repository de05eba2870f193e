"""The PostgreSQL that `manage.py up` runs where DATABASE_URL names none.

Only the settings of the database and what runs the product import from here.
"""
