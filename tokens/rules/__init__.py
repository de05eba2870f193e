"""The rules of tokens as pure functions: values, permissions, domains, signatures, words.

Pure: neither Django nor the database. Everything else about tokens may import from here.
"""
