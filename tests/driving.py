"""Every port of a driver in memory, and a list of what was done: what a simulation brings, without its clients."""

from muster_coordinator.meter import Traffic
from muster_coordinator.orders import OrderBook
from muster_coordinator.ports import Made, Ports


class World:
    """Every port at once, and a list of what was done."""

    def __init__(self):
        self.time = 1000.0
        self.done = []
        self.told = []
        self.commits = []
        self.plans = []
        self.models = 0
        self.published = []
        self.answers = {}
        self.book = OrderBook(self.wake)
        self.ports = Ports(self, self, self.book, self, self, self, self)

    def now(self):
        return self.time

    def unix(self):
        return self.time + 1e9

    def tell(self, kind, details):
        self.told.append((kind, dict(details)))

    def take(self):
        return Traffic(10, 20, 25, 35)

    def reached(self, place):
        self.done.append(place)

    def wake(self, _changed, answers):
        self.done.append("wake")
        self.answers |= answers

    def save_plan(self, plan):
        self.done.append(f"plan {plan.round}.{plan.attempt}")
        self.plans.append(plan)

    def save_commit(self, commit):
        self.done.append(f"commit {commit.round}")
        self.commits.append(commit)

    def save_evaluation(self, record):
        self.done.append(f"evaluation {record.round}")

    def open(self, base, number, phase):  # noqa: ARG002 -- nothing is matched
        self.done.append(f"open {number} on {base}")

    def fold(self, assignment, weight, beside):
        assert beside == 0
        self.done.append(f"fold {assignment} {weight}")

    def forget(self, assignment):
        self.done.append(f"forget {assignment}")

    def make(self, number, scale, corrections):
        assert scale == 1
        assert not corrections
        self.models += 1
        return Made(f"model-{number}")

    def load_first(self, path):
        return Made(path)

    def publish(self, model, number, audience):
        self.done.append(f"publish {model}")
        self.published.append((number, audience))

    def prune(self, keep):
        self.done.append(f"prune {keep}")
