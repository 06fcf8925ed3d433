"""The forms of slurmrestd's requests and answers from v0.0.42 on, as far as the bridge writes and reads them.

Taken down from the OpenAPI documents that SLURM 24.11, 25.05 and 25.11 give out for v0.0.42, 43 and 44: in these fields
they differ by one state of a job. A real 24.11 is held against them in tests/slurm; no newer one is at hand.
"""

VERSIONS = (42, 43, 44)
TEXT, WHOLE, YES_OR_NO = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "array", "items": TEXT}


def exactly(**properties):
    """An object with these properties, and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


NUMBER = exactly(set=YES_OR_NO, infinite=YES_OR_NO, number=WHOLE)

JOB = exactly(
    **dict.fromkeys(("name", "comment", "array", "current_working_directory", "standard_output", "partition"), TEXT),
    **dict.fromkeys(("account", "qos", "reservation", "kill_warning_signal", "constraints", "tres_per_node"), TEXT),
    **dict.fromkeys(("tasks", "cpus_per_task", "minimum_nodes", "maximum_nodes"), WHOLE),
    **dict.fromkeys(("time_limit", "kill_warning_delay", "memory_per_node"), NUMBER),
    requeue=YES_OR_NO,
    environment=TEXTS,
    open_mode={"type": "array", "items": {"enum": ["APPEND", "TRUNCATE"]}},
)
SUBMISSION = exactly(script=TEXT, job=JOB)
ERRORS = {"type": "array", "items": exactly(description=TEXT, source=TEXT, error=TEXT, error_number=WHOLE)}
SUBMITTED = exactly(job_id=WHOLE, step_id=TEXT, job_submit_user_msg=TEXT, errors=ERRORS, warnings={"type": "array"})
EXIT = exactly(status=TEXTS, return_code=NUMBER, signal=exactly(id=NUMBER, name=TEXT))

_STATES = {
    *("PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"),
    *("BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "LAUNCH_FAILED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
    *("RESIZING", "CONFIGURING", "COMPLETING", "STOPPED", "RECONFIG_FAIL", "POWER_UP_NODE", "REVOKED", "REQUEUE_FED"),
    *("RESV_DEL_HOLD", "SIGNALING", "STAGE_OUT"),
}
STATES = {42: _STATES, 43: _STATES, 44: _STATES | {"EXPEDITING"}}


def record(version):
    """A job in a listing: of what it has, the part that is read."""
    return exactly(
        **dict.fromkeys(("name", "comment", "state_reason", "nodes", "array_task_string"), TEXT),
        **dict.fromkeys(("job_id", "restart_cnt"), WHOLE),
        **dict.fromkeys(("array_job_id", "array_task_id", "start_time", "end_time"), NUMBER),
        job_state={"type": "array", "items": {"enum": sorted(STATES[version])}},
        exit_code=EXIT,
    )


def listing(version):
    """The answer to GET jobs."""
    jobs = {"type": "array", "items": record(version)}
    return exactly(jobs=jobs, last_backfill=NUMBER, last_update=NUMBER, errors=ERRORS, warnings={"type": "array"})
