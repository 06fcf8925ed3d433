"""A whole simulation, put together: a job, a profile and a folder in; results and a summary out."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from muster.loop import Shop
from muster.task import Client
from muster.workshop import Workshop
from muster_cli.plan import data_of
from muster_cli.simulation.bench import Bench, PacedShop
from muster_cli.simulation.client import SimulatedClient, Surroundings
from muster_cli.simulation.fleet import Nature, build_fleet
from muster_cli.simulation.office import Office
from muster_cli.simulation.profile import Profile
from muster_cli.simulation.results import History, Recorder
from muster_cli.simulation.summary import summarise
from muster_cli.simulation.surrogate import Surrogate
from muster_cli.simulation.world import World
from muster_coordinator.state import Progress
from muster_spec.clients import ClientId, client_id
from muster_spec.types import ResolvedJob
from muster_spec.work import work_of

UID = "simulated"


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of it."""

    about: dict[str, object]
    summary: dict[str, Any]
    history: History


def simulate(job: ResolvedJob, profile: Profile, data: str | None, out: BinaryIO, *, surrogate: bool) -> Simulated:
    """Run the job to its end in simulated time. Lines of JSON go to `out`; storage is a folder that is gone afterwards.

    Raises what the task and the coordinator raise, and CommandError where the job can never end.
    """
    job = msgspec.structs.replace(job, uid=UID)
    clients = tuple(client_id(pool.name, index) for pool in job.pools for index in range(pool.spec.clients))
    fleet = build_fleet(profile, clients, job.spec.seed)
    with tempfile.TemporaryDirectory(prefix="muster-simulation-") as folder:
        scene = _Scene(job, profile, fleet, Path(folder), out)
        scene.recorder.begin(scene.about(surrogate=surrogate), fleet)
        scene.people(data, scene.shop(surrogate=surrogate))
        scene.office.run()
    summary = summarise(scene.recorder.history, fleet)
    scene.recorder.close(summary)
    return Simulated(scene.about(surrogate=surrogate), summary, scene.recorder.history)


class _Scene:
    """World, coordinator and clients of one simulation."""

    def __init__(
        self, job: ResolvedJob, profile: Profile, fleet: tuple[Nature, ...], storage: Path, out: BinaryIO
    ) -> None:
        self._job, self._profile, self._fleet = job, profile, fleet
        self.world = World()
        self.bench = Bench(self.world, job.spec.local.batch_size)
        self.recorder = Recorder(out, self.world, self._progress)
        self.office = Office(job, storage, self.world, self.recorder, self._news)
        self._clients: dict[ClientId, SimulatedClient] = {}
        self._ordinals = {nature.client: ordinal for ordinal, nature in enumerate(fleet)}

    def about(self, *, surrogate: bool) -> dict[str, object]:
        job, profile = self._job, self._profile
        trained = "training by surrogate" if surrogate else "real training"
        return {
            "job": job.name,
            "profile": profile.name,
            "seed": job.spec.seed,
            "surrogate": surrogate,
            "fleet": f"{len(self._fleet)} clients, profile {profile.name}, seed {job.spec.seed}, {trained}",
        }

    def shop(self, *, surrogate: bool) -> Shop:
        """Where everybody trains, at the pace of each one's machine."""
        work, now = work_of(self._job), self.bench.now
        return PacedShop(Surrogate(work, now) if surrogate else Workshop(work, now), self.bench)

    def people(self, data: str | None, shop: Shop) -> None:
        """Every client, ready to come."""
        around = Surroundings(self.world, self.office, self.bench, shop, self._profile.coordinator_seconds)
        places = [(pool, index) for pool in self._job.pools for index in range(pool.spec.clients)]
        for ordinal, ((pool, index), nature) in enumerate(zip(places, self._fleet, strict=True)):
            place = data_of(pool, index, data)
            client = Client(
                pool=pool.name,
                index=index,
                ordinal=ordinal,
                clients_total=len(places),
                pool_clients=pool.spec.clients,
                seed=self._job.spec.seed,
                data_dir=Path(place) if place else None,
            )
            keeps_state = pool.spec.state is not None and pool.spec.state.type != "Ephemeral"
            self._clients[nature.client] = SimulatedClient(client, nature, around, keeps_state=keeps_state)
        for simulated in self._clients.values():
            simulated.begin()

    def _progress(self) -> Progress:
        return self.office.driver.progress

    def _news(self, changed: frozenset[ClientId] | None) -> None:
        """In the clients' order: a set has none."""
        for client in self._clients if changed is None else sorted(changed, key=self._ordinals.__getitem__):
            self._clients[client].hear()
