"""A database elsewhere: a PostgreSQL reached by TCP, and the network to it, which misbehaves when told to.

The experiments use it in place of the embedded server.
"""
