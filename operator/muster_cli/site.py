"""What `muster run --pools real` needs beside an ordinary run: trust between hosts, and a bridge for each SLURM pool.

The workers run on other machines, so the coordinator speaks mutual TLS. Whoever goes on with the run later has to be
known by the jobs that are still in a queue: the authority and the address stand in the run's folder, private.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from muster_cli.errors import BadInput
from muster_cli.folder import RunFolder
from muster_cli.processes import Child
from muster_spec.types import ResolvedJob
from muster_telemetry.address import parse_address
from muster_wire.durable import write_whole
from muster_wire.errors import TrustError
from muster_wire.trust.authority import Authority, authority_from_pem, make_authority
from muster_wire.trust.bundle import Bundle, make_bundle
from muster_wire.trust.files import write_private
from muster_wire.trust.identity import Role, name_identity

VALID_S = 365 * 86_400.0  # queues last days, jobs weeks; without the job's coordinator it is worth nothing


def check_pools(job: ResolvedJob) -> None:
    """Raises BadInput unless each pool is one that can be driven from here."""
    others = [f"{pool.name} ({pool.spec.type})" for pool in job.pools if pool.spec.type != "Slurm"]
    if others:
        raise BadInput(
            f"--pools real: pool {', '.join(others)} can't be started from here, only Slurm pools can; apply it to "
            "a cluster, or leave out --pools to run every pool as local processes"
        )


@dataclass(frozen=True, slots=True)
class Site:
    """Where the nodes dial, and what the bridges are told."""

    job: ResolvedJob
    folder: RunFolder
    address: str  # HOST:PORT as it was asked for; port 0 takes any one
    secrets: Path | None
    poll_s: float | None

    @property
    def _trust(self) -> Path:
        return self.folder.path / "trust"

    @property
    def host(self) -> str:
        return parse_address(self.address)[0]

    @property
    def listen(self) -> str:
        """Every interface: the name that nodes dial may lead to any of them."""
        return f"0.0.0.0:{parse_address(self.address)[1]}"

    @property
    def pools(self) -> tuple[str, ...]:
        return tuple(pool.name for pool in self.job.pools)

    def prepare(self) -> tuple[str, ...]:
        """Make the files that the coordinator is started with; its options. Raises BadInput."""
        authority = self._authority()
        pair = authority.issue_server([self.host], time.time(), VALID_S)
        write_private(self._trust / "server.pem", pair.chain)
        write_private(self._trust / "server.key", pair.key)
        files = {"--tls-cert": "server.pem", "--tls-key": "server.key", "--client-ca": "ca.pem"}
        files["--enrol-key"] = "ca.key"
        return tuple(word for option, name in files.items() for word in (option, str(self._trust / name)))

    def start_bridge(self, pool: str, port: int) -> Child:
        """The bridge of a pool, whose workers are to dial this port."""
        joiner = name_identity(Role.JOINER, self.job.uid, pool)
        bundle = make_bundle(self._authority(), f"{self.host}:{port}", joiner, time.time(), VALID_S)
        join = self._trust / f"join-{pool}.json"
        write_private(join, bundle.to_json().encode())
        write_whole(self._trust / "address", f"{self.host}:{port}".encode())
        attend = self._trust / f"bridge-{pool}.json"
        write_private(attend, self._bridges_own(pool, port).to_json().encode())
        arguments = ["--job", str(self.folder.job), "--pool", pool, "--join", str(join), "--attend", str(attend)]
        arguments += ["--ledger", str(self.folder.path / f"slurm-{pool}.json")]
        arguments += ["--secrets", str(self.secrets.resolve())] if self.secrets else []
        arguments += ["--poll", str(self.poll_s)] if self.poll_s else []
        return Child("muster_slurm", arguments, self.folder.log(bridge_of(pool)), {})

    def _bridges_own(self, pool: str, port: int) -> Bundle:
        """What a bridge, which runs here, speaks with the coordinator with."""
        identity = name_identity(Role.BRIDGE, self.job.uid, pool)
        return make_bundle(self._authority(), f"127.0.0.1:{port}", identity, time.time(), VALID_S, self.host)

    def _authority(self) -> Authority:
        certificate, key = self._trust / "ca.pem", self._trust / "ca.key"
        if not key.exists():
            self._trust.mkdir(mode=0o700, exist_ok=True)
            authority = make_authority(self.job.uid, time.time(), VALID_S)
            write_private(certificate, authority.pem)
            write_private(key, authority.key_pem)
        try:
            return authority_from_pem(certificate.read_bytes(), key.read_bytes())
        except (OSError, TrustError) as error:
            raise BadInput(f"{self._trust}: can't be used ({error}); start anew in another folder (--out)") from error


def bridge_of(pool: str) -> str:
    """The name of a pool's bridge among the run's processes."""
    return f"bridge-{pool}"


def address_of(folder: RunFolder, asked: str | None) -> str:
    """Where nodes dial: as asked, or this host's full name and any port. A run that goes on keeps its port, since jobs
    in the queue know it.
    """
    file = folder.path / "trust" / "address"
    before = file.read_text() if file.exists() else None
    wanted = asked or before or f"{socket.getfqdn()}:0"
    host, port = parse_address(wanted)
    return before if before and port == 0 and parse_address(before)[0] == host else wanted
