"""A workspace as a whole: exporting everything of it, and erasing it.

`manage.py workspaces` imports from here; it stands above both apps and reads from all of them.
"""
