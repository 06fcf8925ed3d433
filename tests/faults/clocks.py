"""Clocks that are wrong, and certificates whose time is over in the middle of a job."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import tempfile
import time
from datetime import datetime
from pathlib import Path

from cryptography import x509

from faults.jobs import Job, Lab, manifest, pool, with_clock
from faults.nodes import frozen
from muster_operator.build.trust import AUTHORITY_CERTIFICATE, AUTHORITY_KEY, BUNDLE, SERVER_CERTIFICATE, SERVER_KEY
from muster_operator.credentials import EXPIRES, ISSUED
from muster_operator.objects import timestamp
from muster_wire.trust.authority import authority_from_pem
from muster_wire.trust.bundle import read_bundle
from real_nodes import Object, wait_until

LIBRARY = "libfaketime"  # the ConfigMap with it
_PORT = 8443
_ENROLLED = re.compile(r"enrolled as .* until (\d+) s from now")


def clock_ahead(lab: Lab) -> None:
    """Two hours: longer than any certificate of a worker holds. It takes part in each round all the same."""
    _wrong_clock(lab, "+2h", 7200, rounds={"minUpdates": 3}, said="enrolled as")


def clock_behind(lab: Lab) -> None:
    """Before the coordinator's certificate began to hold, so that it can't be let in: the others go on."""
    _wrong_clock(lab, "-1d", -86400, rounds={}, said="clock")


def _wrong_clock(lab: Lab, offset: str, seconds: int, rounds: Object, said: str) -> None:
    name = f"clock-{'ahead' if seconds > 0 else 'behind'}"
    wrong = with_clock(pool("wrong", clients=1, trusted=False), LIBRARY, offset)
    given = manifest(name, [pool("near"), wrong], rounds=rounds)
    with lab.job(f"a worker's clock at {offset}", given, until=0) as job:
        wait_until(lambda: len(job.team.pods(name, "worker")) == 2, "both workers run")
        job.breaks()
        pod = job.pod("worker", "wrong")
        wait_until(lambda: bool(job.log(pod)), "it has said something")
        first = job.log(pod)[0]
        assert abs(_unix(first["time"]) - _unix(first["taken"]) - seconds) < 60
        wait_until(lambda: any(said in line["message"] for line in job.log(pod)), f"it says {said}")
        history = job.ends_well()
        assert {one["used"] for one in history} == ({3} if seconds > 0 else {2})


def _unix(text: str) -> float:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text)).timestamp()


def workers_certificate_expires(lab: Lab) -> None:
    """Of a worker that was stopped while it should have renewed it (a minute's validity: see the fixture `release`)."""
    with lab.job("a worker stopped until its certificate has expired", manifest("expired", [pool("near")])) as job:
        pod = job.pod("worker")
        [enrolled] = _enrolments(job, pod)
        job.breaks()
        with frozen(job.team.nodes, pod):
            wait_until(lambda: time.time() > enrolled + 1, "its certificate has expired", within_s=90)
            assert job.team.training(job.name)["round"] < job.rounds
        wait_until(lambda: len(_enrolments(job, pod)) > 1, "it has another")
        job.ends_well()


def _enrolments(job: Job, pod: Object) -> list[float]:
    """Until when each certificate of a worker holds, as Unix time."""
    found = ((line["taken"], _ENROLLED.search(line["message"])) for line in job.log(pod))
    return [_unix(taken) + int(match[1]) for taken, match in found if match]


def coordinators_certificate_expires(lab: Lab) -> None:
    """The operator renews it in time, and a worker that connects after the old one expired meets the new one."""
    given = manifest("renewed", [pool("near")], rounds={"total": 40}, config={"seconds": 1.5})
    with lab.job("the coordinator's certificate expires", given) as job:
        old = _served(job)
        job.breaks()
        _replace_certificate(job, valid_s=30)
        _show_secrets(job)
        wait_until(lambda: _served(job).serial_number != old.serial_number, "the short one is served")
        short = _served(job)
        wait_until(lambda: _kept(job).serial_number != short.serial_number, "the operator has renewed it")
        _show_secrets(job)
        wait_until(lambda: _served(job).serial_number != short.serial_number, "the renewed one is served")
        wait_until(lambda: time.time() > short.not_valid_after_utc.timestamp(), "the short one has expired")
        job.team.nodes.kill_pod(job.pod("worker"))
        assert job.team.training(job.name)["round"] < job.rounds
        job.ends_well()


def _replace_certificate(job: Job, valid_s: float) -> None:
    """Put one into the Secret that holds for so long only, as the operator would have made it."""
    secret = job.team.get("secret", f"{job.name}-authority")["data"]
    authority = authority_from_pem(*(base64.b64decode(secret[name]) for name in (AUTHORITY_CERTIFICATE, AUTHORITY_KEY)))
    names = _served(job).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    now = time.time()
    pair = authority.issue_server(names.get_values_for_type(x509.DNSName), now, valid_s)
    content = {SERVER_CERTIFICATE: pair.chain, SERVER_KEY: pair.key}
    patch = {
        "metadata": {"annotations": {ISSUED: timestamp(now), EXPIRES: timestamp(now + valid_s)}},
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }
    job.team.tell("patch", "secret", f"{job.name}-server", "--type=merge", "-p", json.dumps(patch))


def _show_secrets(job: Job) -> None:
    """Have the kubelet look at the coordinator's pod now, not within a minute or two."""
    pod = job.pod("coordinator")["metadata"]["name"]
    job.team.tell("annotate", "pod", pod, "--overwrite", f"test.muster.dev/looked-at={time.time()}")


def _kept(job: Job) -> x509.Certificate:
    """The coordinator's certificate in its Secret."""
    secret = job.team.get("secret", f"{job.name}-server")
    return x509.load_pem_x509_certificate(base64.b64decode(secret["data"][SERVER_CERTIFICATE]))


def _served(job: Job) -> x509.Certificate:
    """The certificate that the coordinator greets with."""
    secret = job.team.get("secret", f"{job.name}-join-near")
    bundle = read_bundle(base64.b64decode(secret["data"][BUNDLE]).decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder, "chain"), Path(folder, "key")
        chain.write_bytes(bundle.pair.chain)
        key.write_bytes(bundle.pair.key)
        context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"])
    address = job.pod("coordinator")["status"]["podIP"]
    with socket.create_connection((address, _PORT), timeout=10) as plain, context.wrap_socket(plain) as secured:
        greeted = secured.getpeercert(binary_form=True)
    assert greeted
    return x509.load_der_x509_certificate(greeted)
