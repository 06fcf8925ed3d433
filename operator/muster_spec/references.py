"""Checks what one document alone can't show: pools that jobs name, names used twice, sums over pools.

The API server sees one object at a time; on a cluster the operator reports the same things in a job's status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from muster_spec.documents import Document
from muster_spec.paths import FieldPath, dig, format_path, nearest
from muster_spec.problems import Category, Problem

Finding = tuple[Document, FieldPath, Problem]

# How many updates a robust rule needs in each round to bear f hostile clients: factor × f + 3.
_ROBUST_FACTORS = {"krum": 2, "multiKrum": 2, "bulyan": 4}
# Fields of spec.rounds that count clients, or updates that a round needs of as many clients.
_OF_CLIENTS: tuple[tuple[str, ...], ...] = (("cohort",), ("minUpdates",), ("asynchronous", "bufferSize"))
_BY_STEPS = {"FedNova", "Scaffold"}
_ALONE = (
    (("strategy", "type"), "FedMA"),
    (("local", "sampling", "type"), "FedBalancer"),
    (("rounds", "stragglers", "type"), "LayerWise"),
)
_A_MAJORITY = 3  # of two updates nobody can say which one is the hostile one


def reference_problems(documents: Sequence[Document]) -> Iterator[Finding]:
    """What is wrong between the documents. They have their defaults, but may be wrong in themselves."""
    yield from _duplicates(documents)
    for job in documents:
        if job.kind == "FederatedJob":
            yield from _job_problems(job, documents)


def _finding(job: Document, path: FieldPath, message: str, remedy: str) -> Finding:
    return job, path, Problem(Category.REFERENCE, message, remedy, format_path(path))


def _duplicates(documents: Sequence[Document]) -> Iterator[Finding]:
    seen: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        key = (document.kind, document.namespace, document.name)
        if document.name and key in seen:
            first = seen[key]
            where = f"{first.file}, document {first.index}" if first.file else f"document {first.index}"
            message = f"there is another {document.kind} named {document.name} ({where})"
            yield _finding(document, ("metadata", "name"), message, "give each its own name, or remove one")
        seen.setdefault(key, document)


@dataclass(frozen=True, slots=True)
class _Pool:
    index: int
    name: str
    spec: dict[str, Any]


def _job_problems(job: Document, documents: Sequence[Document]) -> Iterator[Finding]:
    entries = dig(job.value, "spec", "pools")
    pools: list[_Pool] = []
    missing = False
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        found = _pool_spec(job, entry, documents)
        if isinstance(found, dict):
            pools.append(_Pool(index, str(dig(entry, "name")), found))
        else:
            missing = True
            if isinstance(found, Problem):
                yield _finding(job, ("spec", "pools", index, "name"), found.message, found.remedy)
    if pools and not missing:
        yield from _sum_problems(job, pools)
        yield from _label_problems(job, pools)
        yield from _trust_problems(job, pools)
        yield from _rank_problems(job, pools)
        yield from _own_state_problems(job, pools)


def _pool_spec(job: Document, entry: Any, documents: Sequence[Document]) -> dict[str, Any] | Problem | None:
    """The spec of the pool that an entry means; a problem when there is no such pool, None when it can't be told."""
    name, inline = dig(entry, "name"), dig(entry, "inline")
    if inline is not None or not isinstance(name, str):
        return inline if isinstance(inline, dict) else None
    known = [one for one in documents if one.kind == "ClientPool"]
    here = {one.name: one for one in known if one.namespace == job.namespace}
    if name in here:
        spec = dig(here[name].value, "spec")
        return spec if isinstance(spec, dict) else None
    return Problem(Category.REFERENCE, f"there is no ClientPool {name}", _where_it_may_be(name, here, known))


def _where_it_may_be(name: str, here: dict[str, Document], known: list[Document]) -> str:
    elsewhere = next((one for one in known if one.name == name), None)
    if elsewhere:
        return f"it is in namespace {elsewhere.namespace}: put the job and its pools into one namespace"
    guess = nearest(name, here)
    hint = f"did you mean {guess}? " if guess else ""
    return f"{hint}give the file that holds it too, or write the pool inline"


def _sum_problems(job: Document, pools: list[_Pool]) -> Iterator[Finding]:
    """Numbers of a round that there aren't enough clients for."""
    counts = [pool.spec.get("clients") for pool in pools]
    total = sum(count for count in counts if isinstance(count, int))
    if not all(isinstance(count, int) for count in counts):
        return
    for field in _OF_CLIENTS:
        wanted = dig(job.value, "spec", "rounds", *field)
        if isinstance(wanted, int) and wanted > total:
            message = f"{wanted} is more than the {total} clients of the job's pools"
            remedy = f"set {field[-1]} to at most {total}, or add clients"
            yield _finding(job, ("spec", "rounds", *field), message, remedy)
    yield from _robust_problems(job, total)


def _label_problems(job: Document, pools: list[_Pool]) -> Iterator[Finding]:
    """A round that asks for labels needs enough clients that have them."""
    place = ("spec", "selection", "label", "matchLabels")
    wanted = dig(job.value, *place)
    if not isinstance(wanted, dict) or not all(isinstance(value, str) for value in wanted.values()):
        return
    found = sum(_count_with(pool.spec, wanted) for pool in pools)
    rounds = dig(job.value, "spec", "rounds")
    asked = dig(rounds, "minUpdates") or dig(rounds, "asynchronous", "bufferSize") or dig(rounds, "cohort") or 1
    if isinstance(asked, int) and found < asked:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(wanted.items()))
        message = f"{found} clients of the job's pools have {labels}, and a round asks for {asked}"
        yield _finding(job, place, message, "label more pools or clients, ask for fewer labels, or for fewer clients")


def _count_with(spec: dict[str, Any], wanted: dict[str, str]) -> int:
    """How many clients of a pool have these labels, its own or theirs on top."""
    common, places, count = dig(spec, "labels") or {}, dig(spec, "data", "perClient") or [], dig(spec, "clients")
    own = [{**common, **(dig(place, "labels") or {})} for place in places]
    rest = max(count - len(own), 0) if isinstance(count, int) else 0
    return sum(wanted.items() <= labels.items() for labels in [*own, *[common] * rest])


def _robust_problems(job: Document, total: int) -> Iterator[Finding]:
    """Where neither minUpdates nor cohort is set, a round may close with half of all clients: CEL can't know them."""
    rounds = dig(job.value, "spec", "rounds") or {}
    if dig(rounds, "minUpdates") is not None or dig(rounds, "cohort") is not None:
        return
    place = ("spec", "robustness", "aggregation")
    needed = _needed_updates(dig(job.value, *place) or {})
    if needed and (total + 1) // 2 < needed[1]:
        message = f"a round may close with {(total + 1) // 2} of {total} clients, but {needed[1]} are needed"
        remedy = "set rounds.minUpdates, add clients, or bear fewer hostile ones"
        yield _finding(job, (*place, *needed[0]), message, remedy)


def _needed_updates(aggregation: dict[str, Any]) -> tuple[FieldPath, int] | None:
    """How many updates a robust rule needs in each round, and the field that says so."""
    for member, factor in _ROBUST_FACTORS.items():
        hostile = dig(aggregation, member, "byzantine")
        if isinstance(hostile, int):
            return (member, "byzantine"), factor * hostile + 3
    return None if aggregation.get("type", "Mean") == "Mean" else (("type",), _A_MAJORITY)


def _trust_problems(job: Document, pools: list[_Pool]) -> Iterator[Finding]:
    if dig(job.value, "spec", "task", "initialModel", "type") != "Client" or any(map(_is_trusted, pools)):
        return
    names = ", ".join(pool.name for pool in pools)
    message = f"the first model has to come from a trusted pool, and none of {names} is one"
    remedy = "set trusted: true on a pool whose clients you trust, or give the model with initialModel.type: File"
    yield _finding(job, ("spec", "task", "initialModel"), message, remedy)


def _rank_problems(job: Document, pools: list[_Pool]) -> Iterator[Finding]:
    """Ranks of an MPI site each take steps of their own, and their site is one client, which has one number of them."""
    strategy = dig(job.value, "spec", "strategy", "type")
    site = next((pool.name for pool in pools if dig(pool.spec, "slurm", "mpi", "type") == "Mpi"), None)
    if site is not None and strategy in _BY_STEPS:
        message = f"{strategy} goes by each client's steps, and ranks of pool {site} may take different numbers of them"
        remedy = "take another strategy, slurm.mpi.type Distributed, or a client for each rank"
        yield _finding(job, ("spec", "strategy", "type"), message, remedy)


def _own_state_problems(job: Document, pools: list[_Pool]) -> Iterator[Finding]:
    """What a client does with single examples or layers of its own, ranks that share its work can't."""
    site = next((pool.name for pool in pools if dig(pool.spec, "slurm", "mpi", "type")), None)
    for path, value in _ALONE:
        if site is not None and dig(job.value, "spec", *path) == value:
            message = f"{value} is for clients that are one process each, and those of pool {site} are several ranks"
            yield _finding(job, ("spec", *path), message, "choose another one, or remove slurm.mpi from the pool")


def _is_trusted(pool: _Pool) -> bool:
    trusted = pool.spec.get("trusted")
    return bool(trusted) if trusted is not None else pool.spec.get("type") != "External"
