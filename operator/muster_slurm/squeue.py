"""The command line's text: what is asked, and how answers are read. No I/O.

Each field of squeue -O ends in a bar, so that widths don't matter; the two that others write (name, comment) come last.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from muster_slurm.errors import Denied, Full, Limited, Oversized, Refused, SlurmError, Unreachable
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

TIMED_OUT = 124  # timeout's exit code
_PATIENCE_S = 30  # where slurmctld has no room, sbatch would try again for two minutes

# The names of such limits, which sbatch says before it says that there is one.
_OF_SIZE = r"\b((Assoc|QOS)(Grp|Max|Min)|Max(?=\w+PerAccount))(?!(Submit)?Jobs?(Limit|Per))\w+"
_OF_NUMBER = r"(Grp|Max)(Submit)?Jobs?(Limit|Per)|job array.*too large|too many jobs"
_NO_ROOM = r"job queue full|temporarily (un|dis)|unable to create job record|nodes are busy|submissions disabled"
_NO_CONTACT = (
    r"unable to contact|timed out|connection (refused|closed|reset)|ssh: connect|zero bytes were transmitted|"
    r"communication \w+ failure|message (send|receive) failure|unexpected (message|missing socket)|message length|"
    r"zero length message|header lengths|send entire message|stream version|incompatible versions|find an address|"
    r"plugin initialization failed|rate limit exceeded|(slurmctld|controller).*(not responding|standby)|transport"
)
_KINDS: tuple[tuple[type[SlurmError], str], ...] = (
    (Refused, _OF_SIZE),
    (Full, f"{_OF_NUMBER}|{_NO_ROOM}"),
    (Limited, "violates accounting/QOS policy"),
    (Oversized, "invalid job array specification"),
    (Unreachable, _NO_CONTACT),
    (Denied, "authentication|(?<!buffer )permission denied|host key verification|munge|credential"),
)
_REFUSALS = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KINDS]
_RETRIED = re.compile(r"^.*retrying$", re.MULTILINE)


def submit_program(request: Request) -> str:
    """A program for sh, to be read from its standard input: so nothing of it is anybody's argument.

    The script goes to sbatch in a here document, the environment in assignments; sbatch is told the names alone.
    """
    options = " ".join(shlex.quote(word) for word in submit_words(request))
    settings = [f"export {name}={shlex.quote(value)}" for name, value in request.environment.items()]
    mark = "END_OF_MUSTERS_SCRIPT"
    found = (  # before our PATH is set
        "sbatch=$(command -v sbatch) || { echo 'there is no sbatch on the PATH' >&2; exit 127; }",
        "timeout=$(command -v timeout) || :",  # on a login node nobody else would end it
    )
    submit = f'exec ${{timeout:+"$timeout" {_PATIENCE_S}}} "$sbatch" {options} <<\'{mark}\''
    return "\n".join([*found, *settings, submit, request.script.rstrip("\n"), mark, ""])


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


def error_of(what: str, said: str, code: int = 1) -> SlurmError:
    """What a program's complaint means. One that isn't known is a refusal: it won't go away by itself.

    That sbatch was trying again counts where it hasn't said how that ended.
    """
    words = " ".join(said.split())[-500:] or "it said nothing"
    last = _RETRIED.sub("", said).strip() or said
    otherwise = Unreachable if code == TIMED_OUT else Refused
    kind = next((kind for kind, pattern in _REFUSALS if pattern.search(last)), otherwise)
    return kind(f"{what}: {words}")


def cancel_program(job: int) -> str:
    """scancel, which says nothing of a job that has ended."""
    return f"scancel {job}"
