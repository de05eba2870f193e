"""Datasets: how records are queried, stored, imported and shown.

It may import tokens and apperate; nothing below imports it.
"""
