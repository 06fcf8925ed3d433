"""Which jobs a site takes part in: a table of its policy, and what its file may say."""

import msgspec
import pytest

from muster.errors import ConfigError
from muster.policy import DEFAULT, Asked, Because, judge, read_policy
from muster_spec.rounds_types import Local, Optimizer
from muster_spec.strategy_types import DifferentialPrivacy, Privacy, SecureAggregation
from muster_spec.terms import Terms
from muster_spec.types import InitialModel, PathSource, Source, TaskSpec

DIGEST = "sha256:" + "a" * 64
HEAD = "apiVersion: muster.dev/v1alpha1\nkind: SitePolicy\n"
TASK = TaskSpec(entrypoint="muster.tasks.digits:Digits", config={}, initial_model=InitialModel(type="Client"))
LOCAL = Local(
    epochs=5, batch_size=8, learning_rate=0.1, optimizer=Optimizer(type="SGD", momentum=0.0, weight_decay=0.0)
)
TERMS = Terms(task=TASK, local=LOCAL, rounds=50, least_updates=3, image=f"registry/worker:1@{DIGEST}")
NOISE = DifferentialPrivacy(where="Server", clip_norm=1.0, delta=1e-5, target_epsilon=4.0)


def terms(**changes):
    task = {name: changes.pop(name) for name in ("entrypoint", "source") if name in changes}
    local = {name: changes.pop(name) for name in ("epochs",) if name in changes}
    changes["task"] = msgspec.structs.replace(TASK, **task)
    changes["local"] = msgspec.structs.replace(LOCAL, **local)
    return msgspec.structs.replace(TERMS, **changes)


def private(**given):
    return terms(privacy=Privacy(**given))


@pytest.fixture
def policy(tmp_path):
    def read(text):
        path = tmp_path / "site.yaml"
        path.write_text(HEAD + text)
        return read_policy(path)

    return read


@pytest.mark.parametrize(
    ("text", "offered", "because"),
    [
        ("", terms(), None),
        ("", terms(entrypoint="hospital.models:Net"), Because.ENTRYPOINT),
        ("", terms(entrypoint="muster.tasksy:Net"), Because.ENTRYPOINT),
        ("", terms(source=Source(type="Path", path=PathSource(path="/code"))), Because.CODE),
        ("", terms(source=Source(type="Image")), None),
        ("code: Any", terms(source=Source(type="Path", path=PathSource(path="/code"))), None),
        ("entrypoints: ['hospital.models:*']", terms(entrypoint="hospital.models:Net"), None),
        ("entrypoints: ['hospital.models:*']", terms(), Because.ENTRYPOINT),
        ("entrypoints: []", terms(), Because.ENTRYPOINT),
        ("jobs: ['lab/heart-*']", terms(), None),
        ("jobs: ['other/*', 'lab/digits']", terms(), Because.JOB),
        (f"images: ['{DIGEST}']", terms(), None),
        (f"images: ['{DIGEST}']", terms(image=DIGEST), None),
        (f"images: ['{DIGEST}']", terms(image="worker@sha256:" + "b" * 64), Because.IMAGE),
        (f"images: ['{DIGEST}']", terms(image="worker:latest"), Because.IMAGE),
        (f"images: ['{DIGEST}']", terms(image=""), Because.IMAGE),
        ("privacy: {minimumUpdates: 3}", terms(), None),
        ("privacy: {minimumUpdates: 4}", terms(), Because.PRIVACY),
        ("privacy: {secureAggregation: true}", terms(), Because.PRIVACY),
        ("privacy: {secureAggregation: true}", private(), Because.PRIVACY),
        (
            "privacy: {secureAggregation: true}",
            private(secure_aggregation=SecureAggregation(threshold=0.67, bits=20)),
            None,
        ),
        ("privacy: {differentialPrivacy: {}}", terms(), Because.PRIVACY),
        ("privacy: {differentialPrivacy: {}}", private(differential_privacy=NOISE), None),
        ("privacy: {differentialPrivacy: {where: Client}}", private(differential_privacy=NOISE), Because.PRIVACY),
        ("privacy: {differentialPrivacy: {maximumEpsilon: 4}}", private(differential_privacy=NOISE), None),
        ("privacy: {differentialPrivacy: {maximumEpsilon: 3.9}}", private(differential_privacy=NOISE), Because.PRIVACY),
        (
            "privacy: {differentialPrivacy: {minimumNoiseMultiplier: 1}}",
            private(differential_privacy=NOISE),
            Because.PRIVACY,
        ),
        (
            "privacy: {differentialPrivacy: {maximumDelta: 0.000001}}",
            private(differential_privacy=NOISE),
            Because.PRIVACY,
        ),
        ("limits: {rounds: 50, epochs: 5}", terms(), None),
        ("limits: {rounds: 49}", terms(), Because.LIMIT),
        ("limits: {epochs: 4}", terms(), Because.LIMIT),
        ("limits: {epochs: 4}", terms(epochs=4), None),
    ],
)
def test_what_is_taken_and_what_is_refused(policy, text, offered, because):
    refusal = judge(policy(text), Asked("lab/heart-1", offered))
    assert (refusal and refusal.because) == because
    assert refusal is None or len(refusal.message) > 20


def test_without_a_file_only_what_comes_with_muster_is_run():
    assert judge(DEFAULT, Asked("any/job", terms())) is None
    assert judge(DEFAULT, Asked("any/job", terms(entrypoint="os:system"))).because is Because.ENTRYPOINT


def test_the_first_reason_is_the_one_that_is_told(policy):
    strict = policy("jobs: [none]\nentrypoints: [none]\nlimits: {rounds: 1}")
    assert judge(strict, Asked("lab/heart-1", terms())).because is Because.JOB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("entrypoint: [a]", "policy.entrypoint: unknown; did you mean entrypoints?"),
        ("privacy: {minimumUpdates: 0}", "policy.privacy.minimumUpdates: expected `int` >= 1"),
        ("privacy: {differentialPrivacy: {maximumEpsilon: 0}}", "maximumEpsilon: expected `float` > 0"),
        ("code: Some", "policy.code: invalid enum value"),
        ("images: ['worker:latest']", "policy.images: 'worker:latest' is not a digest"),
        ("entrypoints: muster.*", "policy.entrypoints: expected `array`"),
        ("limits: {rounds: [}", "not YAML"),
    ],
)
def test_a_policy_that_is_wrong_says_where(policy, text, words):
    with pytest.raises(ConfigError, match=r"--policy .*site\.yaml") as refused:
        policy(text)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", "a: b", "kind: SitePolicy", "\x00", "apiVersion: v1\nkind: SitePolicy"])
def test_what_is_no_policy_is_none(tmp_path, text):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read_policy(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_policy(tmp_path / "none")
