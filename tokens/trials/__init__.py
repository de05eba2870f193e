"""“Test this token”: runs every check of the gate on a request that is not sent.

The page and the API import from here.
"""
