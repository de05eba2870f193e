"""Telling owners that a limit is near or reached: when, by mail and by webhook.

Background work and the settings page import from here.
"""
