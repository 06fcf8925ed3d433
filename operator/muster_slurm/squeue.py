"""The command line's text: what is asked, and how answers are read. No I/O.

Each field of squeue -O ends in a bar, so that widths don't matter; the two that others write (name, comment) come last.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from muster_slurm.errors import Denied, Full, Refused, SlurmError, Unreachable
from muster_slurm.jobs import Exit, Job, exit_of, read_tasks
from muster_slurm.request import Request

_FIELDS = (
    *("ArrayJobID", "ArrayTaskID", "JobID", "State", "exit_code", "RestartCnt", "StartTime", "EndTime", "NodeList"),
    *("Reason", "Name", "Comment"),
)
LIST = (
    'TZ=UTC squeue --noheader --array --states=all --user="$(id -un)" '
    f"--Format={','.join(shlex.quote(field + ':|') for field in _FIELDS)}"
)
LIMITS = "scontrol show config"
DEFAULT_MAX_ARRAY = 1001  # slurm.conf's default of MaxArraySize

_REFUSALS = (
    (Full, re.compile(r"submit limit|MaxSubmitJob|job array.*too large|too many jobs", re.IGNORECASE)),
    (
        Unreachable,
        re.compile(
            r"unable to contact|socket timed out|connection refused|zero bytes were transmitted|timed out|"
            r"communication connection failure|ssh: connect|connection closed|connection reset|unexpected message|"
            r"slurm temporarily|slurmctld.*(not responding|standby)|transport",
            re.IGNORECASE,
        ),
    ),
    (Denied, re.compile(r"authentication|permission denied|host key verification|munge|credential", re.IGNORECASE)),
)


def submit_program(request: Request) -> str:
    """A program for sh, to be read from its standard input: so nothing of it is anybody's argument.

    The script goes to sbatch in a here document, the environment in assignments; sbatch is told the names alone.
    """
    options = " ".join(shlex.quote(word) for word in submit_words(request))
    settings = [f"export {name}={shlex.quote(value)}" for name, value in request.environment.items()]
    mark = "END_OF_MUSTERS_SCRIPT"
    found = (
        "sbatch=$(command -v sbatch) || { echo 'there is no sbatch on the PATH' >&2; exit 127; }"  # before ours is set
    )
    submit = f"exec \"$sbatch\" {options} <<'{mark}'"
    return "\n".join([found, *settings, submit, request.script.rstrip("\n"), mark, ""])


def submit_words(request: Request) -> list[str]:
    """sbatch's options."""
    options = request.options
    words = {
        "parsable": "",
        "job-name": request.name,
        "comment": request.comment,
        "array": request.array,
        "nodes": options.nodes,
        "ntasks": options.tasks,
        "time": options.time_limit_minutes,
        "signal": f"TERM@{options.signal_seconds}",
        "requeue" if options.requeue else "no-requeue": "",
        "open-mode": "append",
        "chdir": options.work_dir,
        "output": options.output,
        "export": ",".join(request.environment),
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "reservation": options.reservation,
        "gres": options.gres,
        "cpus-per-task": options.cpus_per_task,
        "mem": f"{options.memory_mb}M" if options.memory_mb else None,
    }
    return [f"--{name}={value}" if value != "" else f"--{name}" for name, value in words.items() if value is not None]


def parse_submitted(text: str) -> int:
    """The id that sbatch --parsable prints: 1234, or 1234;cluster. Raises Unreachable for anything else."""
    last = text.strip().rpartition("\n")[2]
    number = last.partition(";")[0]
    if not number.isdecimal():
        raise Unreachable(f"sbatch answered {text.strip()[:200]!r}, which names no job")
    return int(number)


def parse_listing(lines: Iterable[str], prefix: str) -> Iterator[Job]:
    """The jobs whose name or comment has `prefix` in it. Lines that are no records are left out."""
    for line in lines:
        parts = line.rstrip("\n").split("|")
        if prefix in line and len(parts) == len(_FIELDS) + 1 and parts[2].strip().isdecimal():
            yield _job([part.strip() for part in parts])


def _job(parts: list[str]) -> Job:
    array, tasks, number, state, status, restarts, starts, ends, nodes, reason, name, comment, _ = parts
    listed, is_rest = read_tasks(tasks) if tasks != "N/A" else ((), False)
    return Job(
        id=int(number),
        array=int(array) if array.isdecimal() else int(number),
        tasks=listed,
        states=(state,),
        name=name,
        comment=comment,
        reason=reason,
        exit=_exit(status),
        restarts=int(restarts) if restarts.isdecimal() else 0,
        starts=_unix(starts),
        ends=_unix(ends),
        nodes=nodes,
        is_rest=is_rest,
    )


def _exit(text: str) -> Exit:
    """A raw wait status (22.05: 1792), or an exit code and a signal (24.11: 7:0)."""
    code, colon, number = text.partition(":")
    if not (code.isdecimal() and number.isdecimal() if colon else code.isdecimal()):
        return Exit()
    return Exit(code=int(code), signal=int(number)) if colon else exit_of(int(code))


def _unix(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def parse_max_array(text: str) -> int:
    """MaxArraySize of ``scontrol show config``."""
    found = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", text, re.MULTILINE)
    return int(found[1]) if found else DEFAULT_MAX_ARRAY


def error_of(what: str, said: str) -> SlurmError:
    """What a program's complaint means. One that isn't known is a refusal: it won't go away by itself."""
    words = " ".join(said.split())[-500:] or "it said nothing"
    kind = next((kind for kind, pattern in _REFUSALS if pattern.search(said)), Refused)
    return kind(f"{what}: {words}")


def cancel_program(job: int) -> str:
    """scancel, which says nothing of a job that has ended."""
    return f"scancel {job}"
