"""What a worker does while it waits for its first assignment."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_task import work

from muster import ConfigError
from muster.workshop import Workshop

SAYS_WHAT_IT_IMPORTED = """
import sys
from small_task import work
from muster.workshop import Workshop
before = {"slow_task", "torch._dynamo"} & set(sys.modules)
Workshop(work(entrypoint="slow_task:Slow")).prepare()
print(sorted(before), sorted({"slow_task", "torch._dynamo"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("body", "imported"),
    [("pass", ["slow_task", "torch._dynamo"]), ("def train(self, *given): ...", ["slow_task"])],
    ids=["the ready loop", "a loop of its own"],
)
def test_a_worker_that_waits_imports_what_it_will_need(tmp_path, body, imported):
    (tmp_path / "slow_task.py").write_text(f"import muster\nclass Slow(muster.Task):\n    {body}\n")
    paths = [str(tmp_path), str(Path(__file__).parent), *sys.path]
    code = f"import sys\nsys.path[:0] = {paths!r}\n{SAYS_WHAT_IT_IMPORTED}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"[] {imported}"


def test_a_task_that_can_not_be_loaded_is_told_when_an_order_needs_it():
    workshop = Workshop(work(entrypoint="small_task:Nothing"))
    workshop.prepare()
    with pytest.raises(ConfigError, match="has no class Nothing"):
        workshop.initialise(seed=1)
