"""What changes a token: create, save, rotate, delete, and what has to hold before.

Pages and the Tokens API import from here; the gate does not.
"""
