"""For all tests: how long a property takes to check says nothing about it, and machines are busy."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("faults")

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
