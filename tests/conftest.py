"""For all tests: how long a property takes to check says nothing about it, and machines are busy."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
