"""The dataset pages: each view with the context of its template.

Only the URLs import from here.
"""
