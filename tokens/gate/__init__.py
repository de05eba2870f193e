"""The way of every API request: who asks, what they may, what it costs, how it is answered and counted.

It runs on the event loop, and imports rules and models, never pages, forms or services.
"""
