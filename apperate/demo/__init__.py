"""The demo workspace: its content, and how it is made and removed.

Commands, page contexts and tests import from here.
"""
