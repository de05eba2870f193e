"""The path of every API request: who calls, what they may do, what it costs, the answer and its counting.

It runs on the event loop, and imports rules and models, but no pages, forms or services.
"""
