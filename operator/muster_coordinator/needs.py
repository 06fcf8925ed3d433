"""What a way of combining updates needs of them: strategies and robust rules say it here, each for itself.

A manifest that withholds it is refused at admission, before any of this code runs: the rules stand in
crds/federatedjobs.yaml, in CEL, for the API server reads nothing else. tests/contract/test_needs.py crosses the two.
"""

from __future__ import annotations

from typing import ClassVar


class Needs:
    """All are about the updates of one round. By default a sum of any updates will do."""

    __slots__ = ()

    needs_plaintext: ClassVar[bool] = False  # single updates are looked at, which secure aggregation hides
    needs_one_base: ClassVar[bool] = False  # all start from one model: none comes late, none goes by another version
    needs_own_rounds: ClassVar[bool] = False  # it says itself how long a round waits, and what late updates count
    needs_all_values: ClassVar[bool] = False  # no value is left out by top-k
    needs_whole_model: ClassVar[bool] = False  # no client trains a part only, as with federated dropout
