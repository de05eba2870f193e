"""Apperate: settings, URLs and the ASGI entry. Both apps stand on its folders, but for those of whole pages.

README.md has the path of a request through them; team, demo and running stand on both apps.
"""
