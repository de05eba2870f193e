"""The audit log: writing an event, the chain that seals it, and its words.

Whoever changes something imports trail; words are for the page that shows the log.
"""
