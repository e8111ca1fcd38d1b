"""What holds for every test: a busy machine may be slow, but it may not be wrong."""

import os

from hypothesis import settings

# Before torch is imported, and for every child: the suite has a worker a core, and a team of threads in each of its
# processes would wait for each other most of the time (docs/decisions/spinning.md). Steps are too small to need one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hypothesis would fail an example for taking longer than 200 ms, which on a busy machine says nothing of the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
