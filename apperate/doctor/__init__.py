"""The doctor: each check inspects one part of an installation and reports; none changes anything.

`manage.py doctor` imports from here; the checks read from both apps and from what they stand on.
"""
