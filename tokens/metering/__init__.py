"""What tokens use: counted in memory, written once a second, and kept where a kill does not reach it.

The gate counts here; nothing here knows a request.
"""
