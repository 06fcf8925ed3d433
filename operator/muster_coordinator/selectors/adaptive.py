"""Adaptive: a score for each client out of what is known of it, the highest are asked.

Six terms, each weighed as the job says. The first five lie between 0 and 1, with an average client at one half, so that
no single outlier sets the scale; what is not known counts as average. The sixth grows for as long as a client waits, so
a client that any weight of `fairness` speaks for is asked again whatever the others say.

A round lasts as long as its slowest client, so one slow client among quick ones makes all of them wait. Each round
therefore has a pace: of several (quantiles of the clients' times), the one whose best cohort has the largest sum of
scores over the pace to the power of ¼ · capacity / (capacity + fairness). Who is slower waits, and while they wait the
sum of a slow round grows, until a round of their own is worth it. Rounds of one speed are the idea of TiFL (Chai et al.
2020, "TiFL: A Tier-based Federated Learning System", section 4); what decides between them is this module's own.

Who failed or came too late is left out for a while before anything is scored: see exclusion.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muster_coordinator.histories import Floats, Table, uplinks
from muster_coordinator.selection import Choice, Request, chosen, highest

PACES = 8
HASTE = 0.25  # with more, slow clients were asked too seldom beside quick ones (benchmarks/selection.py shows it)

_WORDS = {
    "capacity": "its computing speed",
    "bandwidth": "its connection",
    "reliability": "its reliability",
    "quality": "the use of its updates",
    "data_size": "the size of its data",
    "fairness": "its turn after waiting",
}


@dataclass(frozen=True, slots=True)
class Adaptive:
    """How much each term counts."""

    capacity: float
    bandwidth: float
    reliability: float
    quality: float
    data_size: float
    fairness: float

    def __call__(self, request: Request) -> tuple[Choice, ...]:
        if not request.eligible:
            return ()
        rows = request.rows
        terms = self.terms(rows, waited(request, rows))
        scores = np.sum(list(terms.values()), axis=0)
        times = np.nan_to_num(rows["elapsed_s"])  # who is not known yet may come in any round
        pace = self.pace(times, scores, request.wanted)
        quick = np.flatnonzero(times <= pace)
        ties = request.uniforms("adaptive")[quick]
        places = quick[highest(scores[quick], request.wanted, ties)].tolist()
        best = np.array([term - np.median(term) for term in terms.values()])[:, places].argmax(axis=0)
        among = f"{len(quick)} clients" + (f" of up to {pace:.3g} s" if pace > 0 else "")
        words = [_WORDS[name] for name in terms]
        return chosen(
            request,
            {
                place: f"adaptive: among the best of {among}, most of all for {words[term]}"
                for place, term in zip(places, best.tolist(), strict=True)
            },
        )

    def pace(self, times: Floats, scores: Floats, wanted: int) -> float:
        """The seconds that a client of this round may take; there are as many of them as are wanted."""
        weight = self.capacity + self.fairness
        exponent = HASTE * self.capacity / weight if weight else 0.0
        least = np.sort(times)[min(wanted, len(times)) - 1]
        paces = np.unique(np.quantile(times, np.linspace(0, 1, PACES + 1), method="higher"))
        possible = paces[paces >= least]
        slowest = float(possible[-1])
        if slowest <= 0 or not exponent:
            return slowest
        floor = slowest * 1e-6  # a client that took no time at all
        sums = [np.sort(scores[times <= pace])[-wanted:].sum() / max(pace, floor) ** exponent for pace in possible]
        return float(possible[int(np.argmax(sums))])

    def terms(self, rows: Table, waiting: Floats) -> dict[str, Floats]:
        """What each term adds to each client's score."""
        used = rows["used"] + rows["used_before"]
        attempts = used + rows["failed"] + rows["late"] + rows["failed_before"]
        parts = {
            "capacity": below_average(_seconds_of_work(rows)),
            "bandwidth": above_average(uplinks(rows)),
            "reliability": (used + 2.0) / (attempts + 2.0),  # good until it proves otherwise
            "quality": above_average(_contributions(rows)),
            "data_size": above_average(np.where(rows["examples"] > 0, rows["examples"], np.nan)),
            "fairness": waiting,
        }
        return {name: getattr(self, name) * part for name, part in parts.items()}


def waited(request: Request, rows: Table) -> Floats:
    """Rounds since each client was asked, as a multiple of how long it would be with everybody in turn."""
    turn = max(len(request.eligible) / max(request.wanted, 1), 1.0)
    rounds: Floats = request.round - rows["last_asked"].astype(np.float64)
    return rounds / turn


def above_average(values: Floats) -> Floats:
    """From 0 to 1, rising; the median, and what is not known, at one half."""
    known = values[~np.isnan(values)]
    middle = float(np.median(known)) if len(known) else 0.0
    if middle <= 0:
        return np.full(len(values), 0.5)
    return np.where(np.isnan(values), 0.5, values / (values + middle))


def below_average(values: Floats) -> Floats:
    """From 0 to 1, falling."""
    return 1.0 - above_average(values)


def _seconds_of_work(rows: Table) -> Floats:
    """Who says nothing of its training is judged by how long it takes in all, a newcomer by its pace before, and one of
    whom nothing is known by what its worker measured of itself.
    """
    times = np.where(np.isnan(rows["train_s"]), rows["elapsed_s"], rows["train_s"])
    known = times[~np.isnan(times)]
    usual = float(np.median(known)) if len(known) else 1.0
    measured = np.nanmedian(rows["flops"]) / rows["flops"] if not np.isnan(rows["flops"]).all() else rows["flops"]
    pace: Floats = np.where(np.isnan(rows["pace_before"]), measured, rows["pace_before"])
    return np.where(np.isnan(times), usual * pace, times)


def _contributions(rows: Table) -> Floats:
    return np.where(rows["moved_weight"] > 0, rows["moved"] / np.maximum(rows["moved_weight"], 1e-9), np.nan)
