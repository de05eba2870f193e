"""HTTP around both apps: the data plane's handler, middleware, problem documents, parameters.

Views and the gate import from here; it knows no token, no dataset and no page.
"""
