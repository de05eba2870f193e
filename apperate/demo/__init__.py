"""The demo workspace: what it holds, and making and removing it.

Commands, the context of pages and tests import from here.
"""
