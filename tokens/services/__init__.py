"""Services that change a token: create, save, rotate, delete, and their preconditions.

Pages and the Tokens API import from here; the gate does not.
"""
