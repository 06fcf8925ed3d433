"""What `muster worker` is made of, in a thread of this process, so that what it remembers can be looked at."""

import threading

from coordinating import TOKEN
from muster.courier import Courier
from muster.desk import Desk
from muster.logtail import LogTail
from muster.membership import Membership
from muster.witness import Watch
from muster.worker import WorkerSettings


class Worker:
    """Acts for these clients of pool p from the moment it is made. `values`: how many trainable ones the model has."""

    def __init__(self, connection, clients, values, give_up_s):
        settings = WorkerSettings(coordinator="", pool="p", token=TOKEN, indices=clients)
        self._values = values
        self._give_up_s = give_up_s
        self._desk = Desk()
        self._membership = Membership(settings, f"worker-{clients[0]}", connection)
        self._courier = Courier(connection, self._desk, self._membership.join, LogTail())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            if self._courier.connect():
                loop = self._membership.build_loop(self._desk, Watch("p", None), self._membership.build_workshop())
                self._courier.start()
                loop.run()
        finally:
            self._courier.stop()

    def join(self):
        self._thread.join(self._give_up_s)
        return self._desk.ending

    def memories(self):
        """Of every client, as bytes."""
        book = self._membership._book
        assert not book.held()
        return {
            client: {name: array.tobytes() for name, array in book.memory(client, self._values).arrays().items()}
            for client in self._membership._leases.clients
        }
