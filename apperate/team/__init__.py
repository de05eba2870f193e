"""The pages of a workspace: people, invitations, audit log, settings; and the operator's admin.

It stands on everything below; the URLs and the commands import from here.
"""
