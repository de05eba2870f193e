from tests.test_up import ROOT, Installation, until  # noqa: F401
