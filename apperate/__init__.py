"""Apperate: settings, URLs and the ASGI entry point. Its folders serve both apps, except those of pages.

README.md follows a request through them; team, demo and running build on both apps.
"""
