"""The frame of every page: the data of its header, form fields, charts.

Pages import from here; nothing here knows about tokens or datasets.
"""
