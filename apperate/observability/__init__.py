"""What others see of the running processes: figures for Prometheus, spans of requests, reports of faults.

Everything from apperate/database upwards may import from here; it knows no database and no tokens.
"""
