"""Manifests of the children: what each field of the schema does to them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from muster_operator.build.common import child_name
from muster_operator.objects import Object, dig
from muster_operator.settings import read_settings
from operating import INSTALL, Cluster, job_object, pool_object


def children(job: dict[str, Any] | None = None, pool: dict[str, Any] | None = None) -> Cluster:
    cluster = Cluster(job_object(**(job or {})), pool_object(**(pool or {})))
    cluster.settle()
    return cluster


def worker_pod(**pool: Any) -> Object:
    found: Object = children(pool=pool).child("Job", "digits-workers-cloud")["spec"]["template"]
    return found


def worker(**template: Any) -> Object:
    found: Object = worker_pod(template=template)["spec"]
    return found


def coordinator(**job: Any) -> Object:
    found: Object = children(job).child("Job", "digits-coordinator")["spec"]["template"]["spec"]
    return found


def service(**fields: Any) -> Object:
    return children({"coordinator": {"service": fields}}).child("Service", "digits-coordinator")


def environment(pod: Object) -> dict[str, Any]:
    return {one["name"]: one.get("value") or one.get("valueFrom") for one in pod["containers"][0]["env"]}


# --- pods -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", [worker(), coordinator()], ids=["worker", "coordinator"])
def test_pods_are_restricted(pod: Object) -> None:
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostPath", "hostNetwork"} & ({*pod} | {key for volume in pod["volumes"] for key in volume})


def test_each_pod_is_shown_its_own_keys_and_no_others() -> None:
    def secrets(pod: Object) -> list[str]:
        sources = [
            one for volume in pod["volumes"] for one in [volume, *volume.get("projected", {}).get("sources", [])]
        ]
        return [one["secret"].get("secretName") or one["secret"]["name"] for one in sources if "secret" in one]

    assert secrets(worker()) == ["digits-join-cloud"]
    assert secrets(coordinator()) == ["digits-authority", "digits-server"]
    assert not [name for pod in (worker(), coordinator()) for name in environment(pod) if "MUSTER" in name]


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ({}, ("containers", 0, "image"), "worker:1"),
        ({"image": "mine:2"}, ("containers", 0, "image"), "mine:2"),
        ({"imagePullPolicy": "Always"}, ("containers", 0, "imagePullPolicy"), "Always"),
        ({"imagePullSecrets": [{"name": "reg"}]}, ("imagePullSecrets",), [{"name": "reg"}]),
        ({"resources": {"requests": {"cpu": 2}}}, ("containers", 0, "resources"), {"requests": {"cpu": "2"}}),
        ({"resources": {"limits": {"memory": "4Gi"}}}, ("containers", 0, "resources"), {"limits": {"memory": "4Gi"}}),
        ({"nodeSelector": {"disk": "ssd"}}, ("nodeSelector",), {"disk": "ssd"}),
        ({"priorityClassName": "low"}, ("priorityClassName",), "low"),
        ({"runtimeClassName": "nvidia"}, ("runtimeClassName",), "nvidia"),
        ({"serviceAccountName": "reader"}, ("serviceAccountName",), "reader"),
        ({"runAs": {"user": 7}}, ("securityContext", "runAsUser"), 7),
        ({"runAs": {"group": 8}}, ("securityContext", "runAsGroup"), 8),
        ({"runAs": {"volumeGroup": 9}}, ("securityContext", "fsGroup"), 9),
        ({}, ("securityContext", "fsGroup"), None),
        ({"terminationGracePeriodSeconds": 5}, ("terminationGracePeriodSeconds",), 5),
        ({}, ("terminationGracePeriodSeconds",), 60),
        ({}, ("tolerations",), None),
    ],
)
def test_the_template_is_carried_out(template: dict[str, Any], path: tuple[str | int, ...], expected: Any) -> None:
    assert dig(worker(**template), *path) == expected


def test_labels_and_annotations_are_put_on_the_pods_but_never_over_ours() -> None:
    pod = worker_pod(template={"labels": {"team": "a", "muster.dev/job": "x"}, "annotations": {"note": "b"}})
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"]["muster.dev/job"] == "digits"
    assert pod["metadata"]["labels"]["muster.dev/pool"] == "cloud"
    assert pod["metadata"]["annotations"] == {"note": "b"}


def test_what_opens_private_registries_is_given_to_every_pod() -> None:
    pool = pool_object(template={"imagePullSecrets": [{"name": "theirs"}, {"name": "everybodys"}]})
    cluster = Cluster(job_object(), pool)
    cluster.install = dataclasses.replace(INSTALL, pull_secrets=("everybodys", "ours"))
    cluster.settle()
    found = [cluster.child("Job", name)["spec"]["template"]["spec"]["imagePullSecrets"] for name in cluster.keys("Job")]
    names = [[one["name"] for one in each] for each in found]
    assert names == [["everybodys", "ours"], ["theirs", "everybodys", "ours"]]
    given = {"MUSTER_COORDINATOR_IMAGE": "c", "MUSTER_WORKER_IMAGE": "w", "MUSTER_IMAGE_PULL_SECRETS": "a,b"}
    assert read_settings(given).install.pull_secrets == ("a", "b")
    assert "imagePullSecrets" not in coordinator()


def test_labels_for_a_queue_are_put_on_the_jobs_where_it_looks_for_them() -> None:
    job = job_object()
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus", "team": "a"}
    cluster = Cluster(job, pool_object())
    cluster.settle()
    for name in cluster.keys("Job"):
        labels = cluster.child("Job", name)["metadata"]["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "gpus"
        assert "team" not in labels
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "others"}
    assert cluster.plan().actions == ()  # where a Job waits is between its user and the queue


def test_tolerations_are_given_on() -> None:
    one = {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 3}
    assert worker(tolerations=[one])["tolerations"] == [one | {"operator": "Equal"}]


def test_spot_pods_may_run_on_spot_nodes() -> None:
    keys = {one["key"] for one in worker(spot=True)["tolerations"]}
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= keys


def test_a_device_brings_the_toleration_of_its_nodes() -> None:
    limits = {"cpu": 1, "nvidia.com/gpu": 1}
    assert worker(resources={"limits": limits})["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_variables_and_secrets_become_environment() -> None:
    given = [{"name": "A", "value": "1"}, {"name": "B", "secret": {"name": "s", "key": "k"}}]
    found = environment(worker(environment=given))
    assert found["A"] == "1"
    assert found["B"] == {"secretKeyRef": {"name": "s", "key": "k"}}


def test_libraries_start_as_many_threads_as_the_pod_may_use_cores() -> None:
    limited = {"resources": {"limits": {"cpu": 2}}}
    assert environment(worker(**limited))["OMP_NUM_THREADS"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
    own = [{"name": "OMP_NUM_THREADS", "value": "7"}]
    assert environment(worker(environment=own, **limited))["OMP_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in environment(worker(resources={"limits": {"memory": "1Gi"}}))


def test_the_coordinator_is_reached_without_the_proxy() -> None:
    found = environment(worker(proxy={"http": "http://p:1", "https": "http://p:2", "exceptions": "a.org"}))
    assert found["http_proxy"] == found["HTTP_PROXY"] == "http://p:1"
    assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://p:2"
    assert found["no_proxy"] == found["NO_PROXY"] == "a.org,digits-coordinator.lab.svc"


def test_shared_memory_is_mounted() -> None:
    pod = worker(sharedMemory="1Gi")
    volume = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert volume in pod["volumes"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]  # noqa: S108


# --- data and state ---------------------------------------------------------------------------------------------------


CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "d", "subPath": "a"}}


@pytest.mark.parametrize(
    ("volume", "source", "mount"),
    [
        (CLAIM, {"persistentVolumeClaim": {"claimName": "d", "readOnly": True}}, {"readOnly": True, "subPath": "a"}),
        ({"type": "ConfigMap", "configMap": {"name": "c"}}, {"configMap": {"name": "c"}}, {"readOnly": True}),
        ({"type": "Secret", "secret": {"name": "s"}}, {"secret": {"secretName": "s"}}, {"readOnly": True}),
    ],
)
def test_data_is_mounted_and_the_worker_told_where(volume: Any, source: Any, mount: Any) -> None:
    pod = worker_pod(data={"volume": volume})["spec"]
    assert {"name": "data"} | source in pod["volumes"]
    assert {"name": "data", "mountPath": "/data"} | mount in pod["containers"][0]["volumeMounts"]
    assert " --data /data" in " ".join(pod["containers"][0]["command"])


def test_a_claim_may_be_written_to() -> None:
    claim = {"claimName": "d", "readOnly": False}
    pod = worker_pod(data={"volume": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": claim}})["spec"]
    assert {"name": "data", "mountPath": "/data", "readOnly": False} in pod["containers"][0]["volumeMounts"]


def test_data_may_be_in_the_image() -> None:
    assert " --data /opt/data" in " ".join(worker_pod(data={"path": "/opt/data"})["spec"]["containers"][0]["command"])


@pytest.mark.parametrize(
    ("state", "option"),
    [
        ({"type": "Ephemeral"}, ""),
        ({"type": "Path", "path": {"path": "/shared"}}, " --state /shared"),
        ({"type": "Volume", "volume": {"claimName": "s"}}, " --state /var/lib/muster/state"),
    ],
)
def test_state_is_kept_where_the_pool_says(state: Any, option: str) -> None:
    pod = worker_pod(state=state)["spec"]
    command = " ".join(pod["containers"][0]["command"])
    assert (option in command) if option else "--state" not in command
    claims = [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert claims == (["s"] if state["type"] == "Volume" else [])


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clients", "workers", "count", "share"),
    [
        (6, {}, 6, "1"),
        (6, {"clientsPerWorker": 2}, 3, "2"),
        (7, {"clientsPerWorker": 2}, 4, "2"),
        (6, {"max": 2}, 2, "3"),
        (6, {"min": 6, "clientsPerWorker": 3}, 6, "1"),
        (6, {"min": 0}, 6, "1"),
    ],
)
def test_workers_are_enough_for_all_clients(clients: int, workers: Any, count: int, share: str) -> None:
    job = children(pool={"clients": clients, "workers": workers}).child("Job", "digits-workers-cloud")
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (count, count)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--capacity") :][:4] == ["--capacity", str(clients), "--share", share]


def test_an_eviction_or_a_drain_costs_a_worker_no_retry() -> None:
    job = children({"runPolicy": {"backoffLimit": 4}}).child("Job", "digits-workers-cloud")["spec"]
    actions = [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in job["podFailurePolicy"]["rules"]]
    assert actions == [("Ignore", None), ("Ignore", [143]), ("FailIndex", [2])]
    assert job["backoffLimitPerIndex"] == 4
    assert job["podReplacementPolicy"] == "Failed"


def test_a_coordinator_is_replaced_before_its_silent_node_is_given_up() -> None:
    job = children().child("Job", "digits-coordinator")["spec"]
    assert job["podReplacementPolicy"] == "TerminatingOrFailed"
    assert {one["tolerationSeconds"] for one in job["template"]["spec"]["tolerations"]} == {30}


def test_the_coordinator_is_told_where_everything_is() -> None:
    pod = coordinator()
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    command = pod["containers"][0]["command"]
    assert command[command.index("--job") + 1] == f"{mounts['job']}/job.json"
    assert command[command.index("--storage") + 1] == f"{mounts['checkpoint']}/uid-of-digits"
    assert command[command.index("--enrol-key") + 1] == f"{mounts['trust']}/ca.key"
    assert command[command.index("--enrol-minutes") + 1] == "60"


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({}, ("containers", 0, "image"), "coordinator:1"),
        ({"image": "mine:2"}, ("containers", 0, "image"), "mine:2"),
        ({"resources": {"limits": {"cpu": 1}}}, ("containers", 0, "resources"), {"limits": {"cpu": "1"}}),
        ({"resources": {"requests": {"cpu": 1}}}, ("containers", 0, "resources"), {"requests": {"cpu": "1"}}),
        ({"nodeSelector": {"a": "b"}}, ("nodeSelector",), {"a": "b"}),
        ({"priorityClassName": "high"}, ("priorityClassName",), "high"),
    ],
)
def test_the_coordinators_pod_is_as_asked(fields: Any, path: tuple[str | int, ...], expected: Any) -> None:
    assert dig(coordinator(coordinator=fields), *path) == expected


def test_a_coordinator_that_matches_layers_is_where_scipy_is() -> None:
    matching = {"strategy": {"type": "FedMA"}}
    assert dig(coordinator(**matching), "containers", 0, "image") == "worker:1"
    assert dig(coordinator(**matching, coordinator={"image": "mine:2"}), "containers", 0, "image") == "mine:2"


def test_the_service_is_as_asked() -> None:
    asked = service(type="NodePort", port=8000, nodePort=30123, annotations={"a": "b"})
    assert asked["spec"]["type"] == "NodePort"
    assert asked["spec"]["ports"] == [
        {"name": "federation", "port": 8000, "targetPort": 8443, "protocol": "TCP", "nodePort": 30123}
    ]
    assert asked["metadata"]["annotations"] == {"a": "b"}
    assert service()["spec"]["ports"][0]["port"] == 443


def test_workers_dial_the_service() -> None:
    job = {"coordinator": {"service": {"port": 8000}}}
    command = children(job).child("Job", "digits-workers-cloud")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--coordinator") + 1] == "digits-coordinator.lab.svc:8000"


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        (None, "digits-coordinator.lab.svc:443"),
        ("fl.example.org", "fl.example.org:443"),
        ("fl.example.org:8443", "fl.example.org:8443"),
    ],
)
def test_the_endpoint_is_what_clients_dial(address: str | None, endpoint: str) -> None:
    cluster = children({"coordinator": {"service": {"address": address} if address else {}}})
    assert cluster.job["status"]["coordinator"]["endpoint"] == endpoint


def test_a_load_balancers_address_is_the_endpoint() -> None:
    cluster = children({"coordinator": {"service": {"type": "LoadBalancer"}}})
    cluster.child("Service", "digits-coordinator")["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    cluster.settle()
    assert cluster.job["status"]["coordinator"]["endpoint"] == "192.0.2.1:443"


def test_only_this_jobs_workers_reach_the_coordinator() -> None:
    [rule, _] = children().child("NetworkPolicy", "digits-coordinator")["spec"]["ingress"]
    labels = rule["from"][0]["podSelector"]["matchLabels"]
    assert labels["muster.dev/job"] == "digits"
    assert labels["app.kubernetes.io/component"] == "worker"
    [metrics] = children().child("NetworkPolicy", "digits-worker")["spec"]["ingress"]
    assert [port["port"] for port in metrics["ports"]] == [9464], "nobody dials a worker, but to look at it"


def test_a_coordinator_for_outside_clients_is_open_to_them() -> None:
    cluster = children({"coordinator": {"service": {"type": "LoadBalancer"}}})
    [rule, _] = cluster.child("NetworkPolicy", "digits-coordinator")["spec"]["ingress"]
    assert "from" not in rule


def test_a_coordinator_may_write_its_own_jobs_status_and_nothing_else() -> None:
    role = children().child("Role", "digits-coordinator")
    assert role["rules"] == [
        {
            "apiGroups": ["muster.dev"],
            "resources": ["federatedjobs/status"],
            "resourceNames": ["digits"],
            "verbs": ["get", "patch"],
        }
    ]


def test_a_claim_is_made_as_asked() -> None:
    volume = {"size": "5Gi", "storageClassName": "fast"}
    cluster = children({"checkpoint": {"storage": {"type": "Volume", "volume": volume}}})
    [name] = cluster.keys("PersistentVolumeClaim")
    spec = cluster.child("PersistentVolumeClaim", name)["spec"]
    assert spec["resources"] == {"requests": {"storage": "5Gi"}}
    assert spec["storageClassName"] == "fast"


def test_names_fit_and_stay_apart() -> None:
    job, pool = "j" * 40, "p" * 40
    names = {child_name(job, f"workers-{pool}"), child_name(job, f"workers-{pool[:-1]}q")}
    assert len(names) == 2
    assert all(len(name) <= 52 for name in names)
    assert child_name("digits", "coordinator") == "digits-coordinator"


@pytest.mark.parametrize("name", ["digits-coordinator", "digits-workers-cloud", "digits-bridge-hpc"])
def test_prometheus_finds_the_metrics_of_all_pods_and_may_fetch_them_from_inside_the_cluster(name: str) -> None:
    slurm = {"url": "https://slurm:6820", "auth": {"user": "fl", "tokenSecret": {"name": "site", "key": "token"}}}
    hpc = pool_object("hpc", type="Slurm", clients=4, slurm=slurm)
    reached = {"service": {"address": "fl.example.org:8443"}}
    cluster = Cluster(job_object(pools=("cloud", "hpc"), coordinator=reached), pool_object(), hpc)
    cluster.settle()
    template = cluster.child("Job", name)["spec"]["template"]
    [container] = template["spec"]["containers"]
    [port] = [each["containerPort"] for each in container["ports"] if each["name"] == "metrics"]
    assert container["command"][container["command"].index("--metrics") + 1] == f"0.0.0.0:{port}"
    assert template["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "muster-operator"  # as the PodMonitor asks
    policies = [cluster.child("NetworkPolicy", each)["spec"] for each in cluster.keys("NetworkPolicy")]
    [ingress] = [
        policy["ingress"]
        for policy in policies
        if policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ]
    assert {"ports": [{"port": port, "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]} in ingress
