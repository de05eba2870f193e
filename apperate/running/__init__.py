"""What runs the product: server, supervisor, configuration.

Management commands and the settings import from here.
"""
