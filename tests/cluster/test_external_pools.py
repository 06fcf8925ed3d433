"""External pools against a real API server: Secrets, status, rights, and a site that comes, trains and refuses.

Operator and lobby run with the chart's rights and no others, each as its own ServiceAccount. There is no kubelet: the
lobby and coordinators run here, with what their pods would be shown.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import coordinating
from charting import Account, credentials
from coordinating import Coordinator
from laptop_pods import pinned_job, service_account
from lobbying import Lobby, Site
from muster_wire.trust.bundle import Bundle, read_bundle
from operator_runs import Kubectl, Lab, wait_until

POOL = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: site}
spec: {type: External, clients: 1, trusted: true, external: {certificateValidity: 2h}}
"""
JOB = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: digits}
spec:
  task: {entrypoint: "small:Small", config: {seconds: 0.5}}
  pools: [{name: site}]
  rounds: {total: 3, deadlineSeconds: 60}
  local: {epochs: 1, batchSize: 16, learningRate: 0.1}
  coordinator: {service: {address: "ADDRESS"}}
"""
KINDS = "secrets,roles,rolebindings"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path, lobby=f"127.0.0.1:{free_port()}")


def pool(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.get("clientpool", "site").get("status", {})
    return found


def own(lab: Lab) -> set[str]:
    """What belongs to pools."""
    items = lab.get(KINDS, "-l", "muster.dev/pool")["items"]
    return {f"{one['kind']}/{one['metadata']['name']}" for one in items if "deletionTimestamp" not in one["metadata"]}


ALL = {"Secret/site.authority", "Secret/site-enrolment", "Role/site.lobby", "RoleBinding/site.lobby"}


def secret(lab: Lab, name: str) -> dict[str, bytes]:
    return {key: base64.b64decode(text) for key, text in lab.get("secret", name)["data"].items()}


def bundle(lab: Lab) -> Bundle:
    return read_bundle(secret(lab, "site-enrolment")["bundle.json"].decode())


@contextmanager
def lobby(lab: Lab) -> Iterator[Lobby]:
    """The lobby's process, as its ServiceAccount and with the certificate that the operator has made for it."""
    name = f"{lab.namespace}-lobby"
    wait_until(lambda: lab.cluster.kubectl("-n", lab.namespace, "get", "secret", name).returncode == 0, "it has one")
    folder = lab.folder / "lobby"
    folder.mkdir(exist_ok=True)
    account = credentials(lab.cluster, lab.namespace, name, lab.folder)
    running = Lobby(folder, account, lab.lobby, ("--namespaces", lab.namespace), secret(lab, name), authority(lab))
    try:
        assert running.address == lab.lobby
        yield running
    finally:
        running.stop()


def authority(lab: Lab) -> bytes:
    return secret(lab, f"{lab.namespace}-lobby-authority")["ca.crt"]


@contextmanager
def coordinator(lab: Lab, address: str) -> Iterator[Coordinator]:
    """The job's, with what its pod would be shown; and a pod that counts as ready."""
    wait_until(lambda: "Secret/digits-server" in lab.children(), "its certificate is there")
    wait_until(lambda: len(lab.pods("coordinator")) == 1, "there is a pod")
    folder = lab.folder / "trust"
    (folder / "pools").mkdir(parents=True, exist_ok=True)
    for name in ("digits-authority", "digits-server"):
        for key, content in secret(lab, name).items():
            (folder / key).write_bytes(content)
    (folder / "pools" / "site.crt").write_bytes(secret(lab, "site.authority")["ca.crt"])
    security = ["--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key", "--client-ca", folder / "ca.crt"]
    security += ["--enrol-key", folder / "ca.key", "--pool-authorities", folder / "pools"]
    account, environment = service_account(lab)
    with coordinating.coordinator(
        lab.folder,
        pinned_job(lab),
        listen=address,
        security=[str(each) for each in security],
        arguments=("--service-account", account),
        environment=environment,
    ) as running:
        assert running.address == address
        lab.run_pod(lab.pods("coordinator")[0])
        yield running


def test_a_pool_gets_its_secrets_and_loses_them_with_itself(lab: Lab) -> None:
    with lab.operator():
        before = lab.everything()
        lab.apply(POOL)
        wait_until(lambda: own(lab) == ALL, "all is there")
        wait_until(lambda: pool(lab).get("reason") == "NoWorkers", "its status says who is missing")
        assert bundle(lab).coordinator == lab.lobby
        assert bundle(lab).ca.encode() == authority(lab)
        enrolment = pool(lab)["enrolment"]
        assert enrolment["secretName"] == "site-enrolment"
        assert enrolment["certificateAuthority"].encode() == secret(lab, "site.authority")["ca.crt"]
        lab.settle()
        seen = len(lab.requests())
        lab.tell("annotate", "clientpool/site", "look=again")
        lab.settle(3)
        assert lab.requests()[seen:] == []
        lab.tell("delete", "secret", "site-enrolment")
        wait_until(lambda: own(lab) == ALL, "it is made again")
        lab.tell("delete", "clientpool", "site")
        wait_until(lambda: lab.everything() - before <= lobby_secrets(lab), "nothing of it is left")


def lobby_secrets(lab: Lab) -> set[str]:
    """The lobby's own, which were made meanwhile."""
    return {f"secret/{lab.namespace}-lobby", f"secret/{lab.namespace}-lobby-authority"}


def test_a_secret_of_somebody_elses_is_not_overwritten(lab: Lab) -> None:
    lab.tell("create", "secret", "generic", "site-enrolment", "--from-literal=a=b")
    with lab.operator():
        lab.apply(POOL)
        wait_until(lambda: "there already, and not the pool's" in pool(lab).get("message", ""), "it is said")
        assert secret(lab, "site-enrolment") == {"a": b"b"}
        lab.tell("delete", "secret", "site-enrolment")
        wait_until(lambda: own(lab) == ALL, "it is made once that is gone", 60)


def test_revoking_takes_the_secrets_away_and_letting_in_makes_new_ones(lab: Lab) -> None:
    with lab.operator():
        lab.apply(POOL)
        wait_until(lambda: own(lab) == ALL, "all is there")
        before = bundle(lab)
        lab.patch({"spec": {"external": {"revoked": True}}}, "clientpool/site")
        wait_until(lambda: own(lab) == set() and pool(lab)["reason"] == "Revoked", "nothing is left to steal")
        assert "enrolment" not in pool(lab)
        events = lab.get("events", "--field-selector", "involvedObject.kind=ClientPool")["items"]
        assert ("Revoked", "Warning") in {(one["reason"], one["type"]) for one in events}
        lab.patch({"spec": {"external": {"revoked": False}}}, "clientpool/site")
        wait_until(lambda: own(lab) == ALL, "there is a new one")
        assert bundle(lab).certificate != before.certificate


@pytest.mark.timeout(300)
def test_a_site_trains_refuses_and_is_revoked(lab: Lab) -> None:
    address = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        stack.enter_context(lab.operator())
        lab.apply(POOL)
        wait_until(lambda: own(lab) == ALL, "there is a bundle")
        stack.enter_context(lobby(lab))
        site = Site(lab.folder / "site", bundle(lab))
        stack.callback(site.close)
        site.start()
        wait_until(lambda: pool(lab).get("lobby", {}).get("waiting") == 1, "the pool says that it waits", 90)
        wait_until(lambda: pool(lab)["reason"] == "WorkersReady", "and that it is ready")
        lab.apply(JOB.replace("ADDRESS", address))
        running = stack.enter_context(coordinator(lab, address))
        wait_until(lambda: lab.status()["pools"][0].get("workersReady") == 1, "the job has its worker", 90)
        assert running.wait(90) == 0, coordinating.errors_of(lab.folder)
        lab.end_pod(lab.pods("coordinator")[0], 0, json.dumps({"event": "finished", "reason": "Completed"}))
        lab.tell("wait", "--for=condition=Complete", "fedjob/digits", "--timeout=30s")
        site.until("left", job=f"{lab.namespace}/digits", code=0)
        lab.tell("delete", "fedjob", "digits")

        foreign = JOB.replace("ADDRESS", address).replace("small:Small", "another:Net")
        lab.apply(foreign)
        wait_until(lambda: len(lab.pods("coordinator")) == 1, "it starts all the same")
        wait_until(lambda: reason(lab) == "RefusedBySite", "the job says that the site refuses it")
        assert "EntrypointNotAllowed" in lab.status()["pools"][0]["message"]
        lab.tell("delete", "fedjob", "digits")
        assert site.process is not None
        lab.patch({"spec": {"external": {"revoked": True}}}, "clientpool/site")
        assert site.process.wait(60) == 2
        assert "has been revoked" in site.log.read_text()


def reason(lab: Lab) -> str:
    pools = lab.status().get("pools") or [{}]
    return str(pools[0].get("reason"))


@pytest.mark.timeout(300)
def test_a_coordinator_hears_of_a_revocation_by_itself(lab: Lab) -> None:
    address = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        operating = stack.enter_context(ExitStack())
        operating.enter_context(lab.operator())
        lab.apply(POOL)
        wait_until(lambda: own(lab) == ALL, "there is a bundle")
        stack.enter_context(lobby(lab))
        site = Site(lab.folder / "site", bundle(lab))
        stack.callback(site.close)
        site.start()
        lab.apply(
            JOB.replace("ADDRESS", address).replace("seconds: 0.5", "seconds: 2").replace("total: 3", "total: 90")
        )
        running = stack.enter_context(coordinator(lab, address))
        running.until("joined", 90)
        lab.settle()
        operating.close()  # the operator is away
        lab.patch({"spec": {"external": {"revoked": True}}}, "clientpool/site")
        running.until("lost", 30)
        site.until("left", code=2)
        assert "External pool site is revoked" in coordinating.errors_of(lab.folder)


# --- rights -----------------------------------------------------------------------------------------------------------


def test_the_lobby_may_read_one_kind_of_secret_and_write_one_part_of_one_status(lab: Lab) -> None:
    with lab.operator():
        lab.apply(POOL + "---" + JOB.replace("ADDRESS", "127.0.0.1:1"))
        wait_until(lambda: own(lab) == ALL and "Secret/digits-authority" in lab.children(), "all is there")
        lab.settle()
    account = Account(lab.cluster, credentials(lab.cluster, lab.namespace, f"{lab.namespace}-lobby", lab.folder))
    here = ("-n", lab.namespace)
    assert account.ask(*here, "get", "secret", "site.authority").returncode == 0
    for request in (
        ("get", "secrets"),
        ("get", "secret", "site-enrolment"),
        ("get", "secret", "digits-authority"),
        ("get", "secret", f"{lab.namespace}-lobby-authority"),
        ("delete", "secret", "site.authority"),
        ("get", "pods"),
        ("get", "configmaps"),
        ("delete", "clientpool", "site"),
        ("patch", "clientpool/site", "--type=merge", '-p={"spec":{"clients":2}}'),
        ("patch", "fedjob/digits", "--subresource=status", "--type=merge", '-p={"status":{"phase":"Complete"}}'),
        ("get", "clientpools", "-A"),
        ("create", "configmap", "mine"),
    ):
        account.is_refused(*(request if "-A" in request else (*here, *request)))
    before = pool(lab)

    def say(status: object) -> tuple[str, ...]:
        body = json.dumps({"status": status})
        return (*here, "patch", "clientpool/site", "--subresource=status", "--type=merge", "-p", body)

    assert account.ask(*say({"lobby": {"workers": 1}})).returncode == 0
    for wrong in ({"reason": "Idle"}, {"enrolment": {"certificateAuthority": "mine"}}, {"conditions": []}):
        assert "the lobby writes status.lobby and nothing else" in account.is_refused(*say(wrong))
    assert pool(lab) == before | {"lobby": {"workers": 1}}


def test_the_operator_lets_nobody_read_other_secrets(lab: Lab) -> None:
    operator = Account(lab.cluster, lab.kubeconfig)
    role = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: mine, namespace: NAMESPACE, labels: {app.kubernetes.io/managed-by: muster-operator}}
rules: [{apiGroups: [''], resources: [secrets], resourceNames: [NAME], verbs: [VERB]}]
"""
    for name, verb in (("digits-authority", "get"), ("site.authority", "list"), ("site.authority, another", "get")):
        text = role.replace("NAMESPACE", lab.namespace).replace("NAME", name).replace("VERB", verb)
        wait_until(lambda text=text: refused(operator, text), "it is refused")  # type: ignore[misc]


def refused(operator: Account, manifest: str) -> bool:
    """The API server takes a moment until it knows of a policy: what it would let pass until then isn't made."""
    answer = operator.ask("create", "--dry-run=server", "-f", "-", manifest=manifest)
    return answer.returncode != 0 and "by name, and to nothing else" in answer.stderr
