"""Connections: settings, pools, fair shares, changes made elsewhere, the clock, secrets at rest.

Anything that queries the database imports from here; nothing here knows HTTP or a model.
"""
