"""Fuzzes the decoders, fed by what it covers: ``PYTHONPATH=tests python -m fuzz [--seconds 30] [TARGET] [INPUT …]``.

Without a target all of them run, two at a time, each in a process of its own; with one, that one; with inputs, only
these, as a debugger wants it. Ends with 1 when something was found, and says how to see it again.
"""

from __future__ import annotations

import argparse
import base64
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIMIT_BYTES = 6 * 2**30  # of addresses, so that room asked for and never touched is noticed too
RSS_LIMIT_MB = 1536  # torch, which two targets need, is a third of it
INPUT_TIMEOUT_S = 20  # for one input: what takes so long on a busy machine takes too long on any
AT_ONCE = 2
WORK = Path(".fuzz")  # corpora grow here from run to run; inputs that found something are left here
INSTRUMENTED = ["muster", "muster_wire", "muster_coordinator", "muster_spec"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="?")
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    given = parser.parse_args()
    if given.target:
        return fuzz(given.target, given.inputs, given.seconds)
    return fuzz_all(given.seconds)


def fuzz_all(seconds: int) -> int:
    """Every target; the number of those that found something, as 0 or 1."""
    from fuzz.targets import TARGETS

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda name: fuzz_apart(name, seconds), TARGETS))
    return int(any(found))


def fuzz_apart(name: str, seconds: int) -> bool:
    """One target in a process of its own; whether it found something, which is then printed."""
    before = _artifacts(name)
    command = [sys.executable, "-m", "fuzz", name, "--seconds", str(seconds)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    said = done.stdout.splitlines()
    if done.returncode == 0:
        print(f"{name:12} {_last(said, 'Done ') or 'done'}; coverage {_coverage(said)}", flush=True)
        return False
    print("\n".join([f"{name:12} FOUND SOMETHING", *said[-40:], *_again(name, _artifacts(name) - before)]), flush=True)
    return True


def _artifacts(name: str) -> set[Path]:
    return {path for path in (WORK / name).glob("*") if path.is_file()}


def _again(name: str, found: set[Path]) -> list[str]:
    """How to see it again, here or on any other machine."""
    return [
        f"again: PYTHONPATH=tests python -m fuzz {name} {path}\n"
        f"elsewhere: echo {base64.b64encode(path.read_bytes()).decode()} | base64 -d > {path.name}\n"
        f"mended: keep it as tests/fuzz/found/{name}/{path.name}"
        for path in sorted(found)
    ]


def _last(lines: list[str], start: str) -> str:
    return next((line for line in reversed(lines) if line.startswith(start)), "")


def _coverage(lines: list[str]) -> str:
    return next((line.partition("cov:")[2].strip() for line in reversed(lines) if "cov:" in line), "no coverage")


def fuzz(name: str, inputs: list[Path], seconds: int) -> int:
    """One target in this process. libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from fuzz.targets import FOUND, TARGETS
    target = TARGETS.get(name)
    if target is None:
        print(f"no target {name}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if inputs:
        for path in inputs:
            target.run(path.read_bytes())
        return 0
    seeds, corpus = WORK / name / "seeds", WORK / name / "corpus"
    for folder in (seeds, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate([*target.seeds(), *(path.read_bytes() for path in (FOUND / name).glob("*"))]):
        (seeds / str(number)).write_bytes(seed)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    flags = [f"-max_total_time={seconds}", f"-rss_limit_mb={RSS_LIMIT_MB}", f"-timeout={INPUT_TIMEOUT_S}"]
    flags += [f"-max_len={target.longest}", f"-artifact_prefix={WORK / name}/"]
    atheris.Setup([sys.argv[0], *flags, str(corpus), str(seeds)], target.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
