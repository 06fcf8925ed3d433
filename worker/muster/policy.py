"""A site's own policy: which jobs its workers take part in. Its file is the site's, and nobody else's word changes it.

Pure but for reading the file: an offer and a policy give a refusal, or none. What isn't allowed is refused, so a job
with something that this version doesn't know can't be let pass by an oversight. docs/external.md has the file's fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from muster.errors import ConfigError
from muster.options import Options, parse_options
from muster_spec.terms import Terms
from muster_spec.types import Source

READY_TASKS = "muster.tasks.*"
MAX_FILE_BYTES = 256 * 1024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Because(Enum):
    """Why a site takes no part in a job: words for a status, so they stay as they are."""

    JOB = "JobNotAllowed"
    ENTRYPOINT = "EntrypointNotAllowed"
    CODE = "CodeNotAllowed"
    IMAGE = "ImageNotAllowed"
    PRIVACY = "PrivacyTooWeak"
    LIMIT = "LimitExceeded"
    TERMS = "TermsNotUnderstood"
    CANNOT = "WorkerGaveUp"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason, with a sentence for the people on both sides."""

    because: Because
    message: str


class Noise(Options, frozen=True):
    """What differential privacy has to be at least. `where`: Client asks for noise that the site adds itself."""

    where: Literal["Client", "Server"] = "Server"
    maximum_epsilon: Positive | None = None
    minimum_noise_multiplier: Positive | None = None
    maximum_delta: Positive | None = None


class PrivacyFloor(Options, frozen=True):
    """Below this the site takes no part."""

    minimum_updates: Count = 1
    secure_aggregation: bool = False
    differential_privacy: Noise | None = None


class Limits(Options, frozen=True):
    """What one job may ask for; None is any amount."""

    rounds: Count | None = None
    epochs: Count | None = None


class SitePolicy(Options, frozen=True):
    """Patterns are those of shells: `*` is anything, also nothing. The default allows what comes with Muster itself."""

    api_version: Literal["muster.dev/v1alpha1"] = "muster.dev/v1alpha1"
    kind: Literal["SitePolicy"] = "SitePolicy"
    jobs: tuple[str, ...] = ("*",)  # namespace/name
    entrypoints: tuple[str, ...] = (READY_TASKS,)
    code: Literal["Image", "Any"] = "Image"
    images: tuple[str, ...] = ()  # digests; empty: any
    privacy: PrivacyFloor = PrivacyFloor()
    limits: Limits = Limits()


DEFAULT = SitePolicy()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is offered: which job, and its terms."""

    job: str  # namespace/name
    terms: Terms


def read_policy(path: Path) -> SitePolicy:
    """The policy in a file. Raises ConfigError that names the field."""
    place = f"--policy {path}"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        value = yaml.safe_load(content) if len(content) <= MAX_FILE_BYTES else None
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{place}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict) or not {"apiVersion", "kind"} <= value.keys():
        raise ConfigError(
            f"{place}: not a SitePolicy: it begins with apiVersion: muster.dev/v1alpha1, kind: SitePolicy"
        )
    policy = parse_options(SitePolicy, value, f"{place}: policy")
    for image in policy.images:
        if not _DIGEST.fullmatch(image):
            raise ConfigError(
                f"{place}: policy.images: {image[:80]!r} is not a digest: write sha256: and 64 hex digits"
            )
    return policy


def judge(policy: SitePolicy, asked: Asked) -> Refusal | None:
    """Why the site takes no part in this job: the first reason there is."""
    return next(_reasons(policy, asked), None)


def _reasons(policy: SitePolicy, asked: Asked) -> Iterator[Refusal]:
    terms = asked.terms
    if not _matches(policy.jobs, asked.job):
        yield Refusal(Because.JOB, f"job {asked.job} is not among those that this site takes part in")
    if not _matches(policy.entrypoints, terms.task.entrypoint):
        yield Refusal(Because.ENTRYPOINT, f"entrypoint {terms.task.entrypoint} is not among those that this site runs")
    if policy.code == "Image" and brings_code(terms.task.source):
        yield Refusal(Because.CODE, "the task's code comes with the job; this site runs only what is in its own image")
    if policy.images:
        yield from _image(policy.images, terms.image)
    yield from _privacy(policy.privacy, terms)
    yield from _limits(policy.limits, terms)


def brings_code(source: Source | None) -> bool:
    """Whether the task's code isn't simply what is installed."""
    return source is not None and source.type != "Image"


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _image(allowed: tuple[str, ...], image: str) -> Iterator[Refusal]:
    digest = image.rpartition("@")[2]
    if not _DIGEST.fullmatch(digest):
        named = f"image {image}" if image else "an image that nobody names"
        yield Refusal(Because.IMAGE, f"the job is for {named}, without a digest that this site could compare")
    elif digest not in allowed:
        yield Refusal(Because.IMAGE, f"image {digest} is not among those that this site allows")


def _privacy(floor: PrivacyFloor, terms: Terms) -> Iterator[Refusal]:
    if terms.least_updates < floor.minimum_updates:
        yield Refusal(
            Because.PRIVACY,
            f"a model may be made of {terms.least_updates} updates; this site wants {floor.minimum_updates} at least",
        )
    if floor.secure_aggregation and not (terms.privacy and terms.privacy.secure_aggregation):
        yield Refusal(Because.PRIVACY, "this site wants secure aggregation, and the job has none")
    if floor.differential_privacy:
        yield from _noise(floor.differential_privacy, terms)


def _noise(floor: Noise, terms: Terms) -> Iterator[Refusal]:
    noise = terms.privacy.differential_privacy if terms.privacy else None
    if noise is None:
        yield Refusal(Because.PRIVACY, "this site wants differential privacy, and the job has none")
        return
    if floor.where == "Client" and noise.where != "Client":
        yield Refusal(Because.PRIVACY, "this site wants to add the noise itself; in this job the server does")
    bounds = (
        ("epsilon", noise.target_epsilon, floor.maximum_epsilon, 1),
        ("noise multiplier", noise.noise_multiplier, floor.minimum_noise_multiplier, -1),
        ("delta", noise.delta, floor.maximum_delta, 1),
    )
    for name, given, bound, sign in bounds:
        if bound is not None and (given is None or sign * given > sign * bound):
            said = "which the job doesn't say" if given is None else f"and the job has {given:g}"
            limit = "at most" if sign > 0 else "at least"
            yield Refusal(Because.PRIVACY, f"this site wants {name} {limit} {bound:g}, {said}")


def _limits(limits: Limits, terms: Terms) -> Iterator[Refusal]:
    for name, asked, limit in (("rounds", terms.rounds, limits.rounds), ("epochs", terms.local.epochs, limits.epochs)):
        if limit is not None and asked > limit:
            yield Refusal(Because.LIMIT, f"the job wants {asked} {name}; this site gives {limit} at most")
