"""Usage as people read it: sums, periods, the report of a page, series and forecasts.

Pages and the API import from here; what is counted is counted in the gate.
"""
