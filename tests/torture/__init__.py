"""Torture: faults on a running installation, while clients write down what they were told.

Clients keep a history outside the database (history.py, clients.py); faults.py and external/ break
what is below them; checker.py compares the history with the tables that are left. Each experiment
(experiments/) puts these together under an id of its own, and `make torture` runs them all (__main__.py,
outcome.py). The tests here run the checker against planted violations, and a few experiments in small.
Nothing else imports it.
"""
