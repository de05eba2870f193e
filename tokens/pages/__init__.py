"""The token pages: views, what their templates are given, forms and widgets.

Only the URLs import from here.
"""
