"""API tokens: their rules, the gate that applies them, the API and the pages that change them.

Datasets may import tokens; tokens never import datasets.
"""
