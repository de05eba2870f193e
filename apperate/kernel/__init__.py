"""What everything stands on: refusals, JSON text, dates and ranges, cells, the key ring, log lines.

Pure: it knows neither Django nor the database, and imports nothing of the project.
"""
