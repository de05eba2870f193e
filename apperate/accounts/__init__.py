"""Workspaces, their people, plans and permissions, and what both apps need to know about them.

It knows nothing of tokens or datasets. Code above may import models, services, audit.trail and decorators.
"""
