"""Attacks on all of the product at once: what reads text from outside, every stored text, every body.

Run with the other tests; what is about one module stands with that module's tests.
"""
