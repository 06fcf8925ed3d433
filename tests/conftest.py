"""For all tests: how long a property takes to check says nothing about it, and machines are busy.

Several workers train side by side in most of them: with a thread for each core in each they would wait for one another.
"""

import os

import pytest
from hypothesis import settings

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
pytest.register_assert_rewrite("faults")

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
