"""The audit log: writing an event, the hash chain that seals it, and its wording.

Code that changes something imports trail; words is for the page that shows the log.
"""
