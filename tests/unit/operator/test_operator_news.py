"""Which events about a job make it due for a look."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from muster_operator.news import News
from muster_operator.objects import Object
from operating import Cluster, job_object, pool_object

KEY = ("lab", "digits")
TOLD = {"round": 3, "clients": {"connected": 2, "submitted": 1, "pools": [{"name": "cloud", "connected": 2}]}}


def running_job() -> Object:
    cluster = Cluster(job_object(), pool_object())
    cluster.run()
    cluster.job["status"]["training"] = copy.deepcopy(TOLD)
    return cluster.job


def changed(change: Callable[[Any], object]) -> Object:
    job = running_job()
    change(job)
    return job


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        (lambda job: job["metadata"].update(resourceVersion="2"), False),
        (lambda job: job["status"]["training"].update(round=4, accuracy="93.1%"), False),
        (lambda job: job["status"]["training"]["clients"].update(submitted=2), False),
        (lambda job: job["status"]["training"].update(reason="NoQuorum"), True),
        (lambda job: job["status"]["training"]["clients"]["pools"][0].update(connected=1), True),
        (lambda job: job["status"].update(phase="Failed"), True),
        (lambda job: job["status"].pop("conditions"), True),
        (lambda job: job["spec"].update(suspend=True), True),
        (lambda job: job["metadata"].update(annotations={"look": "again"}), True),
        (lambda job: job["metadata"].update(deletionTimestamp="now"), True),
        (lambda job: job["metadata"].update(uid="another"), True),
    ],
)
def test_progress_is_no_news_and_all_else_is(change: Callable[[Any], object], is_news: bool) -> None:
    news = News()
    assert news.is_in(KEY, running_job())
    assert news.is_in(KEY, changed(change)) is is_news


def test_rounds_are_news_for_a_job_that_is_to_rest() -> None:
    news = News()
    job = changed(lambda job: job["spec"].update(suspend=True))
    news.is_in(KEY, job)
    job["status"]["training"]["round"] = 4
    assert news.is_in(KEY, job)


def test_a_job_that_is_gone_is_forgotten() -> None:
    news = News()
    news.is_in(KEY, running_job())
    news.forget(KEY)
    assert news.is_in(KEY, running_job())
