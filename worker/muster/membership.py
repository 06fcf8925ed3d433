"""A worker's place in the federation: what it says when it joins, and what it learns from the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version

import msgspec

from muster.client_state import Book, FolderBook, MemoryBook
from muster.connection import Connection
from muster.desk import Desk
from muster.errors import RefusedError
from muster.leases import Leases
from muster.loop import Loop
from muster.orders import Orders
from muster.site.shop import Site, SiteShop
from muster.survey import Survey
from muster.task import Client
from muster.witness import Watch
from muster.worker import WorkerSettings
from muster.workshop import Workshop, name_device, pick_device
from muster_spec.clients import client_id
from muster_spec.terms import Terms
from muster_spec.work import Work
from muster_wire.codecs import CODECS
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.version import CURRENT

log = logging.getLogger(__name__)


class Membership:
    """Joins, as often as it takes, always as the same worker and with what it holds."""

    def __init__(self, settings: WorkerSettings, name: str, connection: Connection, site: Site | None = None) -> None:
        self._settings = settings
        self._name = name
        self._connection = connection
        self._site = site
        self._leases = Leases()
        self._book: Book | None = None
        self._work: Work | None = None
        self._uid = ""

    def join(self) -> wire.JoinReply:
        """Join; and again at once, if the answer leads to updates that an earlier worker of these clients left."""
        with self._leases.fixed():
            held = self._held()
            reply = self._say(held)
            self._learn(reply)
            return self._say(self._held()) if self._held() != held else reply

    @property
    def job(self) -> str:
        """The name of the job that has been joined."""
        return self._work.job if self._work else ""

    def build_workshop(self) -> Workshop | SiteShop:
        """Where the work of the job that has been joined is done."""
        if self._work is None:
            raise RefusedError("no job has been joined")
        return SiteShop(self._site, self._work) if self._site else Workshop(self._work)

    def build_loop(self, desk: Desk, watch: Watch, workshop: Workshop | SiteShop) -> Loop:
        """The working half, for the job that has been joined."""
        if self._book is None:
            raise RefusedError("no job has been joined")
        witness = watch.joined(self.job, self._uid)
        loop = Loop(desk, self._connection, workshop, self._book, self._leases, witness)
        loop.survey = Survey(self._connection, pick_device)
        return loop

    def heed(self, orders: Orders) -> bool:
        """Whether to join again: clients wait for this worker, or some that others wait for have been let go."""
        release = self._book.release if self._book else lambda _: False
        return self._leases.let_go(orders.handover, release) or orders.more

    def on_change(self, tell: Callable[[], None]) -> None:
        """What to call when the working thread has let clients go."""
        self._leases.changed = tell

    @property
    def _device(self) -> str:
        device = name_device(pick_device())
        return f"{self._site.fabric.size} ranks, rank 0 on {device}" if self._site else device

    def _held(self) -> frozenset[str]:
        return self._book.held() if self._book else frozenset()

    def _say(self, held: frozenset[str]) -> wire.JoinReply:
        settings = self._settings
        leased = [client.index for client in self._leases.clients.values()]
        return self._connection.join(
            wire.JoinRequest(
                version=wire.Version(major=CURRENT.major, minor=CURRENT.minor),
                codecs=[wire.CodecId.Name(codec) for codec in CODECS],
                software=f"muster {version('muster')}",
                worker=self._name,
                pool=settings.pool,
                indices=settings.indices or leased,
                capacity=0 if settings.indices else settings.capacity,
                device=self._device,
                held_assignments=sorted(held),
                sub_models=True,
                control_variates=True,
                confirms_end=True,
                leases_move=not settings.indices,
                share=settings.share,
            )
        )

    def _learn(self, reply: wire.JoinReply) -> None:
        if self._book is None:
            self._work, self._uid = _read_work(reply.work), reply.job_uid
            _check_terms(self._settings.terms, self._work)
            state = self._settings.state
            self._book = FolderBook(state, reply.job_uid) if state else MemoryBook()
        seed = self._work.seed if self._work else 0
        granted = {client_id(each.pool, each.index): self._client(each, seed) for each in reply.clients}
        before = self._leases.clients
        for client in granted.keys() - before.keys():
            self._book.adopt(client)
        for client in before.keys() - granted.keys():
            self._book.release(client)
        if granted.keys() != before.keys() or not granted:
            log.info("acting for %s", ", ".join(granted) or "nobody: all clients have a worker; waiting for some")
        self._leases.grant(granted)

    def _client(self, grant: wire.ClientGrant, seed: int) -> Client:
        return Client(
            pool=grant.pool,
            index=grant.index,
            ordinal=grant.ordinal,
            clients_total=grant.clients_total,
            pool_clients=grant.pool_clients,
            seed=seed,
            data_dir=self._settings.data_of(grant.index),
        )


def _check_terms(terms: Terms | None, work: Work) -> None:
    """What the site has agreed to is what is done, whatever the coordinator says."""
    if terms is not None and (work.task, work.local) != (terms.task, terms.local):
        raise RefusedError(
            f"the coordinator of job {work.job} gives out other work ({work.task.entrypoint}) than what was offered to "
            f"this site ({terms.task.entrypoint}), or trains otherwise: nothing of it is done"
        )


def _read_work(text: str) -> Work:
    try:
        return msgspec.json.decode(text, type=Work)
    except msgspec.MsgspecError as error:
        raise RefusedError(
            f"the coordinator sent work that this version can't read ({error}); upgrade this side"
        ) from error
