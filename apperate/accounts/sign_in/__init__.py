"""How allauth behaves here: sign-in, second factor, sessions, and mail.

Named in the settings; nothing but mail is imported by others.
"""
