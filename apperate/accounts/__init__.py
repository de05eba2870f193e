"""Workspaces, their people, plans and permissions, and what both apps ask about them.

It knows neither tokens nor datasets. Anybody above may import models, services, audit.trail and decorators.
"""
