"""What runs the product: server, supervisor, configuration, and the doctor's diagnosis.

Management commands and the settings import from here.
"""
