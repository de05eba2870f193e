"""What everything builds on: refusals, JSON text, dates and ranges, cells, the key ring, log lines.

Pure: no Django, no database, and no import from the rest of the project.
"""
