"""Datasets: records, how they are asked for, stored, taken in and shown.

It may import tokens and apperate; nothing below imports it.
"""
