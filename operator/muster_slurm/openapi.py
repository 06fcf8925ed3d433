"""slurmrestd's JSON: requests and answers of each version that we speak. No I/O.

Until v0.0.38 numbers are plain and an environment is an object; from v0.0.40 on numbers are {set, infinite, number},
states a list, and an environment a list of K=V. Answers are read in either form whatever the version says. v0.0.39,
which is in between, isn't spoken: every release that has it has v0.0.38 or v0.0.40 too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muster_slurm.errors import Denied, Full, Limited, Oversized, Refused, SlurmError, Unreachable
from muster_slurm.jobs import Exit, Job, exit_of, read_tasks
from muster_slurm.request import Request

SPOKEN = (38, 40, 41, 42, 43, 44)
_PLAIN_UNTIL = 38
_PATH = re.compile(r"/slurm/v0\.0\.([0-9]+)/")

# Numbers of slurm_errno.h, as sbatch and slurmrestd tell them. A test has what each means in 22.05 and 24.11.
UNSPECIFIED = -1  # SLURM_ERROR
GONE = 2017  # invalid job id: it never was, or it has been forgotten
_NEVER_FITS = frozenset({2014, 2015})  # with the second, 22.05 makes a job all the same
_AWAY = frozenset(  # from slurmctld no answer came, or none that could be read, or a standby's
    {UNSPECIFIED, *range(1000, 1007), 1008, *range(1011, 1014), *range(1800, 1806), 2027, 2131, *range(5000, 5006)}
)
_KINDS: tuple[tuple[type[SlurmError], frozenset[int]], ...] = (
    (Refused, _NEVER_FITS),
    (Denied, frozenset({1007, 2002, 2026, 6000, 6001, 6002, 6006, 6007, 6008})),  # authentication
    (Oversized, frozenset({2081})),  # invalid job array specification
    (Full, frozenset({11, 2007, 2016, 2105})),  # MaxJobCount and such: those after which sbatch itself tries again
    (Limited, frozenset({2050})),  # accounting or QOS policy
)


def choose_version(document: str, asked: str | None) -> int:
    """The newest version that both sides know, or the one that the pool asks for. Raises Refused."""
    offered = sorted({int(number) for number in _PATH.findall(document.replace("\\/", "/"))})
    shown = ", ".join(f"v0.0.{number}" for number in offered) or "none"
    wanted = [int(asked.rpartition(".")[2])] if asked else SPOKEN
    common = [number for number in wanted if number in offered and number in SPOKEN]
    if not common:
        ours = ", ".join(f"v0.0.{number}" for number in SPOKEN)
        raise Refused(
            f"slurmrestd offers {shown} of the API; {asked or ours} is what is asked for, and we speak {ours}"
        )
    return max(common)


def submission(request: Request, version: int) -> dict[str, Any]:
    """The body of POST job/submit."""
    options, is_plain = request.options, version <= _PLAIN_UNTIL
    job = {
        "name": request.name,
        "comment": request.comment,
        "array": request.array,
        "tasks": options.tasks,
        "requeue": options.requeue,
        "current_working_directory": options.work_dir,
        "standard_output": options.output,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "reservation": options.reservation,
        "cpus_per_task": options.cpus_per_task,
    }
    job |= _plain(request) if is_plain else _structured(request)
    return {"script": request.script, "job": {name: value for name, value in job.items() if value is not None}}


def _plain(request: Request) -> dict[str, Any]:
    options = request.options
    return {
        "environment": dict(request.environment),
        "nodes": [options.nodes, options.nodes],
        "time_limit": options.time_limit_minutes,
        "signal": f"TERM@{options.signal_seconds}",
        "memory_per_node": options.memory_mb,
        "open_mode": "append",
        "constraint": options.constraint,
        "gres": options.gres,
    }


def _structured(request: Request) -> dict[str, Any]:
    options = request.options
    return {
        "environment": [f"{name}={value}" for name, value in request.environment.items()],
        "minimum_nodes": options.nodes,
        "maximum_nodes": options.nodes,
        "time_limit": _number(options.time_limit_minutes),
        "kill_warning_signal": "TERM",
        "kill_warning_delay": _number(options.signal_seconds),
        "memory_per_node": _number(options.memory_mb) if options.memory_mb else None,
        "open_mode": ["APPEND"],
        "constraints": options.constraint,
        "tres_per_node": ",".join(_tres(options.gres)) if options.gres else None,
    }


def _number(value: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": value}


def _tres(gres: str) -> Iterable[str]:
    return (part if part.startswith(("gres:", "gres/")) else f"gres:{part}" for part in gres.split(","))


def read_submitted(answer: Mapping[str, Any]) -> int:
    """The id of the job that was made. Raises SlurmError, with the id of one that was made and will never run.

    v0.0.38 has an error beside the id of a job that only can't start now, as while its nodes are drained: it waits.
    """
    number = int(answer.get("job_id") or (answer.get("result") or {}).get("job_id") or 0)
    errors = _errors(answer)
    if errors and not (number and not _numbers(errors) & _NEVER_FITS):
        raise error_of("submission", errors, number)
    if not number:
        raise Unreachable("slurmrestd's answer to a submission names no job")
    return number


def error_of(what: str, errors: Sequence[Mapping[str, Any]], job: int = 0) -> SlurmError:
    """What slurmrestd's complaints mean."""
    numbers = _numbers(errors)
    words = "; ".join(dict.fromkeys(filter(None, map(_words, errors)))) or "no reason given"
    otherwise = Unreachable if numbers <= _AWAY else Refused
    kind = next((kind for kind, known in _KINDS if numbers & known), otherwise)
    return kind(f"{what}: {words}", job=job)


def _numbers(errors: Sequence[Mapping[str, Any]]) -> set[int]:
    return {int(each.get("error_number") or each.get("error_code") or 0) for each in errors}


def _words(error: Mapping[str, Any]) -> str:
    said = [str(error[name]) for name in ("error", "description") if error.get(name)]
    return ": ".join(dict.fromkeys(said))


def read_errors(text: str) -> list[Mapping[str, Any]]:
    """The complaints in an answer, whatever else is in it. What is no JSON has none."""
    try:
        answer = json.loads(text)
    except ValueError:
        return []
    return _errors(answer) if isinstance(answer, dict) else []


def _errors(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in answer.get("errors") or () if isinstance(each, dict)]


def read_job(record: Mapping[str, Any]) -> Job:
    """A record of /jobs or /job/ID."""
    number = _whole(record.get("job_id"))
    array = _whole(record.get("array_job_id"))
    single = record.get("array_task_id")
    listed, is_rest = read_tasks(str(record.get("array_task_string") or ""))
    if not listed and not is_rest and array and _is_set(single):
        listed = (_whole(single),)
    states = record.get("job_state") or ()
    return Job(
        id=number,
        array=array or number,
        tasks=listed,
        states=(states,) if isinstance(states, str) else tuple(map(str, states)),
        name=str(record.get("name") or ""),
        comment=str(record.get("comment") or ""),
        reason=str(record.get("state_reason") or ""),
        exit=_exit(record.get("exit_code")),
        restarts=_whole(record.get("restart_cnt")),
        starts=_whole(record.get("start_time")),
        ends=_whole(record.get("end_time")),
        nodes=str(record.get("nodes") or ""),
        is_rest=is_rest,
    )


def _exit(told: object) -> Exit:
    if not isinstance(told, dict):
        return exit_of(_whole(told))
    signal = told.get("signal") or {}
    number = signal.get("id", signal.get("signal_id")) if isinstance(signal, dict) else signal
    return Exit(_whole(told.get("return_code")), _whole(number))


def _is_set(value: object) -> bool:
    return bool(value.get("set")) if isinstance(value, dict) else value is not None


def _whole(value: object) -> int:
    """A number in either form; 0 where it isn't set, or is no number."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") and not value.get("infinite") else 0
    return int(value) if isinstance(value, int | float) else 0
