"""The pages of a workspace: people, invitations, audit log, settings; and the operators' admin.

It may import everything below; the URLs and the commands import from here.
"""
