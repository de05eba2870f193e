"""Apperate: settings, URLs and the ASGI entry; its folders are the rooms that both apps stand on.

See README.md for the way of a request through them.
"""
