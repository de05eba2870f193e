"""Notifying owners that a limit is near or reached, by mail and by webhook.

Background tasks and the settings page import from here.
"""
