"""How allauth behaves here: sign-in, second factor, sessions, and mail.

Referenced by name in the settings; other code imports only mail.
"""
