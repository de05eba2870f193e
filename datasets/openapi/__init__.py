"""The OpenAPI document: operations, schemas and refusals as tables.

The docs, the tester and tests import from here.
"""
