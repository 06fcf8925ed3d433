"""Writes helm/muster/dashboards/*.json, or with --check says whether they are what this script would write.

A dashboard is a list of rows, a row a list of panels, a panel its title, unit and queries: what Grafana wants besides
is the same everywhere and added here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "helm" / "muster" / "dashboards"
JOB = 'namespace="$namespace", fedjob="$fedjob"'
COORDINATOR = f'{JOB}, pool=""'  # workers and bridges are of a pool
SPAN = "$__rate_interval"
WIDTH, HEIGHT = 24, 8


MEMORY = """sum by (component, fedjob) (
  muster_build_info * on (instance, job) group_left process_resident_memory_bytes
)"""
HALF_AN_HOUR = "Within half an hour."


@dataclass(frozen=True)
class Panel:
    """`queries`: legend → PromQL. `kind` is Grafana's name for the way it is drawn."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    about: str = ""
    stacked: bool = False


@dataclass(frozen=True)
class Dashboard:
    """`variables`: name → the query that lists its values."""

    uid: str
    title: str
    about: str
    rows: dict[str, list[Panel]]
    variables: dict[str, str] = field(default_factory=dict)


def mean(family: str, by: str, where: str = JOB) -> str:
    """The average of a histogram."""
    parts = [f"sum by ({by}) (rate({family}_{part}{{{where}}}[{SPAN}]))" for part in ("sum", "count")]
    return " / ".join(parts)


def quantile(share: float, family: str, by: str, where: str = JOB) -> str:
    """What that share of the observations is below."""
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({family}_bucket{{{where}}}[{SPAN}])))"


def lately(family: str, by: str = "namespace, fedjob", where: str = JOB) -> str:
    """How much a counter has grown within half an hour."""
    return f"sum by ({by}) (increase({family}_total{{{where}}}[30m]))"


def memory(component: str) -> str:
    """What a job's processes of one kind hold, by pool."""
    ours = f'muster_build_info{{{JOB}, component="{component}"}}'
    return f"sum by (pool) (\n  {ours} * on (instance, job) group_left process_resident_memory_bytes\n)"


def rate(family: str, by: str, where: str = JOB) -> str:
    """How fast a counter grows."""
    return f"sum by ({by}) (rate({family}_total{{{where}}}[{SPAN}]))"


FLEET = Dashboard(
    "muster-fleet",
    "Muster / Fleet",
    "All jobs, and the operator that looks after them.",
    {
        "Jobs": [
            Panel("Jobs by phase", {"{{phase}}": "sum by (phase) (muster_operator_jobs)"}, stacked=True),
            Panel(
                "Rounds done",
                {"{{fedjob}}": "max by (namespace, fedjob) (muster_round_committed / muster_rounds_target)"},
                "percentunit",
            ),
            Panel(
                "Since the last round",
                {"{{namespace}}/{{fedjob}}": "time() - max by (namespace, fedjob) (muster_progress_timestamp_seconds)"},
                "s",
            ),
            Panel(
                "Failed attempts at a round",
                {"{{namespace}}/{{fedjob}}": lately("muster_round_attempts_failed", where="")},
                about=HALF_AN_HOUR,
            ),
        ],
        "Clients and bytes": [
            Panel("Clients", {"{{state}}": "sum by (state) (muster_clients)"}, stacked=True),
            Panel(
                "Bytes",
                {"{{direction}}": rate("muster_transfer_bytes", "direction", "")},
                "Bps",
            ),
            Panel(
                "Calls of workers",
                {"{{code}}": rate("muster_calls", "code", "")},
                "reqps",
            ),
        ],
        "Operator": [
            Panel(
                "Passes",
                {"{{result}}": f"sum by (kind, result) (rate(muster_operator_reconcile_seconds_count[{SPAN}]))"},
                "ops",
            ),
            Panel(
                "Passes, 99th percentile",
                {"{{kind}}": quantile(0.99, "muster_operator_reconcile_seconds", "kind", "")},
                "s",
            ),
            Panel("Queue", {"{{kind}} {{state}}": "sum by (kind, state) (muster_operator_queue_objects)"}),
            Panel(
                "Longest wait in the queue", {"{{kind}}": "max by (kind) (muster_operator_queue_oldest_seconds)"}, "s"
            ),
            Panel(
                "Requests to the API server",
                {"{{verb}} {{code}}": rate("muster_operator_api_requests", "verb, code", "")},
                "reqps",
            ),
            Panel("Retries", {"retries": f"sum(rate(muster_operator_api_retries_total[{SPAN}]))"}, "reqps"),
            Panel("Silence of watches", {"{{kind}}": "max by (kind) (muster_operator_watch_silence_seconds)"}, "s"),
            Panel("Holds the lease", {"operators": "sum(muster_operator_leading)"}, kind="stat"),
            Panel(
                "Memory",
                {"{{component}} {{fedjob}}": MEMORY},
                "bytes",
            ),
        ],
    },
)

ONE_JOB = Dashboard(
    "muster-job",
    "Muster / Job",
    "One FederatedJob: how far it is, how good its model is, and who holds it up.",
    {
        "Progress": [
            Panel(
                "Round",
                {"committed": f"muster_round_committed{{{JOB}}}", "of": f"muster_rounds_target{{{JOB}}}"},
                kind="stat",
            ),
            Panel("Phase", {"{{phase}}": f"muster_round_phase{{{JOB}}} == 1"}, kind="state-timeline"),
            Panel("Accuracy", {"{{on}}": f'muster_model_score{{{JOB}, metric="accuracy"}}'}, "percentunit"),
            Panel("Loss", {"{{on}}": f'muster_model_score{{{JOB}, metric="loss"}}'}),
        ],
        "Cohort": [
            Panel("Cohort by state", {"{{state}}": f"sum by (state) (muster_cohort_clients{{{JOB}}})"}, stacked=True),
            Panel("Clients by pool", {"{{pool}} {{state}}": f"sum by (pool, state) (muster_clients{{{JOB}}})"}),
            Panel(
                "Completion by pool",
                {"{{pool}}": f"{rate('muster_updates_received', 'pool')} / {rate('muster_clients_asked', 'pool')}"},
                "percentunit",
                about="Updates that arrived, of the clients that were asked.",
            ),
            Panel("Stragglers", {"{{pool}}": rate("muster_stragglers", "pool")}, "ops"),
            Panel("Clients that had nothing to offer", {"{{pool}}": rate("muster_clients_failed", "pool")}, "ops"),
            Panel("Rejected updates", {"{{cause}}": rate("muster_updates_rejected", "cause")}, "ops"),
            Panel(
                "Training time by pool",
                {
                    "{{pool}} median": quantile(0.5, "muster_client_train_seconds", "pool"),
                    "{{pool}} 95th percentile": quantile(0.95, "muster_client_train_seconds", "pool"),
                },
                "s",
            ),
            Panel(
                "Clients that came and went",
                {
                    "{{pool}} joined": rate("muster_clients_joined", "pool"),
                    "{{pool}} lost": rate("muster_clients_lost", "pool"),
                },
                "ops",
            ),
        ],
        "Rounds": [
            Panel("Rounds an hour", {"rounds": f"{rate('muster_rounds_committed', 'fedjob')} * 3600"}),
            Panel("Round", {"mean": mean("muster_round_seconds", "fedjob")}, "s"),
            Panel(
                "Phases of a round",
                {"{{phase}}": mean("muster_round_phase_seconds", "phase", f'{JOB}, phase!="round"')},
                "s",
                stacked=True,
            ),
            Panel("Failed attempts", {"attempts": lately("muster_round_attempts_failed")}, about=HALF_AN_HOUR),
            Panel(
                "Updates in each model",
                {"updates": f"{rate('muster_updates_used', 'fedjob')} / {rate('muster_rounds_committed', 'fedjob')}"},
            ),
        ],
        "Bytes": [
            Panel("Bytes", {"{{direction}}": rate("muster_transfer_bytes", "direction")}, "Bps"),
            Panel(
                "Bytes of an update",
                {"{{pool}}": f"{rate('muster_update_bytes', 'pool')} / {rate('muster_updates_received', 'pool')}"},
                "bytes",
            ),
            Panel("Transfers", {"{{direction}}": mean("muster_transfer_seconds", "direction")}, "s"),
            Panel(
                "Transfers in flight",
                {"{{method}}": f'sum by (method) (muster_calls_in_flight{{{JOB}, method=~"Fetch|Submit"}})'},
            ),
            Panel("Calls", {"{{method}} {{code}}": rate("muster_calls", "method, code")}, "reqps"),
            Panel(
                "Updates put off",
                {"for want of room": lately("muster_uploads_postponed")},
                about=HALF_AN_HOUR,
            ),
            Panel("Refused calls", {"{{cause}}": rate("muster_calls_refused", "cause")}, "reqps"),
        ],
        "Workers": [
            Panel(
                "What workers do",
                {"{{pool}} {{work}}": f"sum by (pool, work) (muster_worker_working{{{JOB}}})"},
                about="Those that serve metrics: in a cluster all of its own pods. Fetching is a part of the rest.",
            ),
            Panel("Work", {"{{pool}} {{work}}": mean("muster_worker_work_seconds", "pool, work")}, "s"),
            Panel(
                "Updates that their round used, and others",
                {"{{pool}} {{used}}": rate("muster_worker_updates_settled", "pool, used")},
                "ops",
            ),
            Panel("Memory of workers", {"{{pool}}": memory("worker")}, "bytes"),
        ],
        "Coordinator": [
            Panel("Checkpoint", {"{{part}}": mean("muster_checkpoint_seconds", "part")}, "s"),
            Panel(
                "Room for the checkpoint",
                {"free": f"muster_storage_free_bytes{{{JOB}}} / muster_storage_size_bytes{{{JOB}}}"},
                "percentunit",
            ),
            Panel("Memory", {"resident": f"process_resident_memory_bytes{{{COORDINATOR}}}"}, "bytes"),
            Panel("Processor", {"cores": f"rate(process_cpu_seconds_total{{{COORDINATOR}}}[{SPAN}])"}),
            Panel(
                "Waiting",
                {
                    "updates staged": f"muster_uploads_staged{{{JOB}}}",
                    "events": f"muster_engine_events_waiting{{{JOB}}}",
                    "sessions": f"muster_sessions{{{JOB}}}",
                },
            ),
            Panel("Warnings", {"warnings": lately("muster_warnings")}, about=HALF_AN_HOUR),
        ],
    },
    {
        "namespace": "label_values(muster_round_committed, namespace)",
        "fedjob": 'label_values(muster_round_committed{namespace="$namespace"}, fedjob)',
    },
)

SLURM = Dashboard(
    "muster-slurm",
    "Muster / SLURM",
    "The SLURM pools of one FederatedJob: what SLURM has for them, and how it answers their bridges.",
    {
        "Workers": [
            Panel(
                "Tasks by state",
                {"{{pool}} {{state}}": f"sum by (pool, state) (muster_slurm_tasks{{{JOB}}})"},
                stacked=True,
            ),
            Panel(
                "Workers that run",
                {
                    "{{pool}}": f'sum by (pool) (muster_slurm_tasks{{{JOB}, state="running"}})'
                    f" / sum by (pool) (muster_slurm_workers_wanted{{{JOB}}})"
                },
                "percentunit",
                about="Of those that the pool is to have.",
            ),
            Panel(
                "Array jobs submitted",
                {"{{pool}}": lately("muster_slurm_submissions", "pool", JOB)},
                about=HALF_AN_HOUR,
            ),
            Panel(
                "Workers that ended too early",
                {"{{pool}} {{how}}": lately("muster_slurm_workers_ended", "pool, how", JOB)},
                about=f"{HALF_AN_HOUR} Interrupted and failed ones are submitted again, given up ones aren't.",
            ),
            Panel(
                "Relay carries",
                {"{{pool}}": f"max by (pool) (muster_slurm_relay_carrying{{{JOB}}})"},
                kind="state-timeline",
                about="Where the pool has one.",
            ),
        ],
        "SLURM": [
            Panel(
                "Since the last listing",
                {"{{pool}}": f"time() - max by (pool) (muster_slurm_listing_timestamp_seconds{{{JOB}}})"},
                "s",
            ),
            Panel("Listing", {"{{pool}}": mean("muster_slurm_call_seconds", "pool", f'{JOB}, call="list"')}, "s"),
            Panel("Calls", {"{{pool}} {{call}} {{result}}": rate("muster_slurm_calls", "pool, call, result")}, "reqps"),
            Panel("Memory of bridges", {"{{pool}}": memory("bridge")}, "bytes"),
        ],
    },
    {
        "namespace": "label_values(muster_slurm_workers_wanted, namespace)",
        "fedjob": 'label_values(muster_slurm_workers_wanted{namespace="$namespace"}, fedjob)',
    },
)

DASHBOARDS = {"fleet": FLEET, "job": ONE_JOB, "slurm": SLURM}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def build(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["muster"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_source(), *(_variable(*each) for each in dashboard.variables.items())]},
        "panels": _panels(dashboard),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {"name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1}


def _panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows.items():
        panels.append({"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}})
        top += 1
        across = 3
        for number, panel in enumerate(row):
            place = {"x": WIDTH // across * (number % across), "y": top + HEIGHT * (number // across)}
            panels.append(_panel(panel, place | {"w": WIDTH // across, "h": HEIGHT}))
        top += HEIGHT * -(-len(row) // across)
    return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "targets": targets,
    }


def main() -> int:
    """Write, or check."""
    texts = {FOLDER / f"{name}.json": json.dumps(build(one), indent=2) + "\n" for name, one in DASHBOARDS.items()}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path}: not what scripts/make_dashboards writes; run it")
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
