"""The dataset pages: a view, and what its template is given.

Only the URLs import from here.
"""
