"""The frame of every page: what its header knows, form fields, charts.

Pages import from here; nothing here knows tokens or datasets.
"""
