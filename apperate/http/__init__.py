"""HTTP for both apps: the data plane's handler, middleware, problem documents, parameters, static files.

Views and the gate import from here; it knows nothing of tokens, datasets or pages.
"""
