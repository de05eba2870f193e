"""Usage for people to read: sums, periods, a page's report, series and forecasts.

Pages and the API import from here; the counting happens in the gate.
"""
