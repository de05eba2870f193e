"""The Tokens API: bodies and documents, its answers, and its endpoints.

Routes import endpoints; documents and bodies serve the docs and "Test this token", parameters their table.
"""
