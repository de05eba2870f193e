"""The token pages: views, the contexts of their templates, forms and widgets.

Only the URLs import from here.
"""
