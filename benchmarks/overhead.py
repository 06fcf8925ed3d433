"""What Kubernetes and Muster add: how soon the first client is there, beside bare pods, and how long a round takes,
beside the embedded runner's.

**Start.** From `kubectl apply` to the first client that has joined, beside the time from `kubectl apply` of two bare
pods with the same images until both run, and until the worker's has imported what a worker imports: no client can be
there sooner. Medians of several turns, bare pods and job in turn, on nodes that have the images.

**Rounds.** The digits example with the same ten clients in pods (examples/digits/pods.yaml) and with `muster run` of
the same file: medians of the last rounds' times, as each says them itself. Pods have mutual TLS, the pods' network, a
checkpoint on a volume, two or three clients and one core each; the runner has a process for each client, and loopback.

Two nodes are brought up by scripts/cluster with the images built (minutes), or taken as they are with --nodes.

    benchmarks/overhead.py [--turns 3] [--nodes NAME]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from clusters_measured.release import released  # noqa: E402 -- after the path
from faults.jobs import RESOURCES, TASK, manifest, pool  # noqa: E402
from real_nodes import Team, team, wait_until  # noqa: E402

EXAMPLE = HERE.parent / "examples" / "digits" / "pods.yaml"
NAMESPACE = "overhead"
LAST_ROUNDS = 20  # that a job's status shows
READY = "imported"
Object = dict[str, Any]


def main() -> int:
    """Measure both, and print them as one JSON object."""
    given = _arguments()
    with released(given.nodes, "overhead") as nodes, team(nodes, NAMESPACE) as lab:
        lab.tell("create", "configmap", "stepping", f"--from-file={TASK}")
        images = images_of(lab)
        turns = [(bare_pods(lab, images), job_starts(lab)) for _ in range(given.turns)]
        in_pods = rounds_in_pods(lab)
    embedded = rounds_embedded()
    running, imported = (statistics.median(bare[which] for bare, _ in turns) for which in ("running", "imported"))
    joined = statistics.median(seconds for _, seconds in turns)
    closing = {
        "benchmark": "overhead",
        "bare_pods_running_s": round(running, 2),
        "bare_worker_imported_s": round(imported, 2),
        "first_client_joined_s": round(joined, 2),
        "joined_over_imported": round(joined / imported, 2),
        "round_in_pods_s": round(in_pods, 3),
        "round_embedded_s": round(embedded, 3),
        "rounds_ratio": round(in_pods / embedded, 2),
        "turns": given.turns,
    }
    print(json.dumps(closing))
    return 0


# --- How soon a client is there ---------------------------------------------------------------------------------------


def images_of(lab: Team) -> tuple[str, str]:
    """The coordinator's and the worker's image, as the operator gives them to jobs."""
    found = lab.nodes.cluster.tell("-n", "muster-system", "get", "deployment", "muster", "-o", "json")
    [container] = json.loads(found)["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value", "") for one in container["env"]}
    return variables["MUSTER_COORDINATOR_IMAGE"], variables["MUSTER_WORKER_IMAGE"]


def bare_pods(lab: Team, images: tuple[str, str]) -> dict[str, float]:
    """Seconds until two pods run which only wait, and until one of them has imported what a worker needs."""
    programs = {
        "coordinator": "import time; time.sleep(600)",
        "worker": f"import time, torch, muster.workshop, muster.connection; print({READY!r}, flush=True); "
        "time.sleep(600)",
    }
    pods = [bare_pod(name, image, programs[name]) for name, image in zip(programs, images, strict=True)]
    since = stopwatch()
    for one in pods:
        lab.tell("create", "-f", "-", manifest=json.dumps(one))
    wait_until(lambda: all(_is_running(lab, name) for name in programs), "both run")
    running = since()
    wait_until(lambda: READY in lab.nodes.cluster.kubectl("-n", lab.namespace, "logs", "worker").stdout, "it says so")
    seconds = {"running": running, "imported": since()}
    lab.tell("delete", "pod", *programs, "--grace-period=0", "--force")
    print(f"bare pods: {seconds}", flush=True)
    return seconds


def bare_pod(name: str, image: str, program: str) -> Object:
    """What Pod Security lets in, on the node that jobs here run on."""
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": name,
        "image": image,
        "command": ["python", "-c", program],
        "resources": RESOURCES,
        "securityContext": security,
    }
    spec = {
        "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": "n1"},
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _is_running(lab: Team, name: str) -> bool:
    return bool(lab.get("pod", name)["status"].get("phase") == "Running")


def job_starts(lab: Team) -> float:
    """Seconds until the status of a job counts its first client."""
    name = f"starts-{time.monotonic_ns() % 10**6}"
    since = stopwatch()
    lab.tell("create", "-f", "-", manifest=json.dumps(manifest(name, [pool("near")])))
    wait_until(lambda: lab.training(name).get("clients", {}).get("connected", 0) > 0, "a client is there", 180)
    seconds = since()
    lab.tell("delete", "fedjob", name)
    print(f"first client: {seconds:.2f} s", flush=True)
    return seconds


def stopwatch() -> Callable[[], float]:
    """Seconds since now."""
    began = time.monotonic()
    return lambda: time.monotonic() - began


# --- How long a round takes -------------------------------------------------------------------------------------------


def rounds_in_pods(lab: Team) -> float:
    """The median of the example's last rounds."""
    lab.tell("apply", "-f", str(EXAMPLE))
    lab.wait("digits", within_s=900)
    history = lab.training("digits")["history"]
    lab.tell("delete", "-f", str(EXAMPLE))
    return statistics.median(one["seconds"] for one in history[-LAST_ROUNDS:])


def rounds_embedded() -> float:
    """The same with `muster run`."""
    with tempfile.TemporaryDirectory(prefix="muster-overhead-") as folder:
        command = [sys.executable, "-m", "muster_cli.main", "run", str(EXAMPLE), "--no-baselines", "--json"]
        done = subprocess.run([*command, f"--out={folder}/run"], capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    committed = [event for event in events if event["event"] == "committed"]
    return statistics.median(event["seconds"] for event in committed[-LAST_ROUNDS:])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3, help="of bare pods and a job (%(default)s)")
    parser.add_argument("--nodes", default="", metavar="NAME", help="a cluster of scripts/cluster that has the images")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
