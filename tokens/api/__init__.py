"""The Tokens API: bodies and documents, what is answered, and its endpoints.

The routes import endpoints; documents and bodies serve the docs and the tester, parameters their table.
"""
