"""What holds for every test: a busy machine may be slow, but it may not be wrong."""

from hypothesis import settings

# Hypothesis would fail an example for taking longer than 200 ms, which on a busy machine says nothing of the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
