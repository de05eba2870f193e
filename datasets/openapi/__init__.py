"""The OpenAPI document: operations, schemas and refusals as tables.

The docs, "Test this token" and tests import from here.
"""
