"""Changing the tables beside running servers: what is released, how long it waits, who may use them.

Commands and the backend import from here; nothing that serves requests does.
"""
