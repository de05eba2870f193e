"""“Test this token”: every check of the gate asked about a request that is not sent.

The page and the API import from here.
"""
