"""The rules of tokens as pure functions: values, permissions, domains, signatures, words.

Pure: no Django, no database. Everything else about tokens may import from here.
"""
