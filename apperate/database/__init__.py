"""Connections: settings, pools, fair shares, what changed elsewhere, the clock, secrets at rest.

Anything that asks the database imports from here; it knows no HTTP and no model.
"""
