"""Which of a job's certificates have to be made, or made anew, and when the next one is due. Pure.

A Secret says in annotations from when to when its content holds, written in one request with the content. So a plan
needs to see no key, and a Secret whose annotations are gone is simply due. The authority holds for longer than any job
runs; what it signs is renewed when two thirds of its life are over, in place: kubelets show running pods the new
content, and the processes read it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muster_operator.actions import Action, Content, CreateAuthority, Issue, JoinBundle, ServerCertificate, Version
from muster_operator.build.common import INPUTS, Context, annotated
from muster_operator.build.trust import build_authority, build_join, build_server
from muster_operator.objects import Key, Object, annotation_of, digest, is_going, key_of, timestamp, unix_of
from muster_operator.observed import Observed
from muster_spec.types import ResolvedPool

DAY_S = 86_400.0
AUTHORITY_S = 10 * 365 * DAY_S
CREDENTIAL_S = 30 * DAY_S
SUBMITTED_S = 365 * DAY_S  # a batch job keeps the bundle that it was submitted with, however long it waits and runs
ISSUED, EXPIRES = "operator.muster.dev/issued", "operator.muster.dev/expires"
CERTIFICATE = "operator.muster.dev/certificate"
"""Annotation of an authority's Secret: its certificate, which is no secret, for plans to see."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One Secret that the authority signs something for."""

    manifest: Object
    content: Content
    valid_s: float = CREDENTIAL_S

    @property
    def key(self) -> Key:
        return key_of(self.manifest)


@dataclass(frozen=True, slots=True)
class Signer:
    """The Secret of an authority, exactly that one."""

    key: Key
    uid: str


def credentials_of(context: Context) -> list[Credential]:
    """The coordinator's certificate, and the bundles of the pools whose workers we start: others have their own."""
    bundles = [
        Credential(build_join(context, pool.name), _join(context, pool), _valid_s(pool))
        for pool in context.job.pools
        if pool.spec.type != "External"
    ]
    return [Credential(build_server(context), ServerCertificate(context.hosts)), *bundles]


def _join(context: Context, pool: ResolvedPool) -> JoinBundle:
    bridge = context.address if pool.spec.type == "Slurm" else ""
    return JoinBundle(context.job.uid, pool.name, context.address_of(pool), bridge)


def _valid_s(pool: ResolvedPool) -> float:
    return SUBMITTED_S if pool.spec.type == "Slurm" else CREDENTIAL_S


def credential_keys(context: Context) -> list[Key]:
    """All the Secrets that a job has."""
    return [key_of(build_authority(context)), *(one.key for one in credentials_of(context))]


def plan_credentials(seen: Observed, context: Context, now: float) -> Iterator[Action]:
    """Make the authority first; then all that it has to sign, and what is due for renewal."""
    authority = build_authority(context)
    if key_of(authority) not in seen.children and key_of(authority) not in seen.strangers:
        yield CreateAuthority(authority, AUTHORITY_S)
    if not context.authority_id:
        return
    signer = Signer(Key("Secret", context.authority_name), context.authority_id)
    for credential in credentials_of(context):
        have, inputs = seen.children.get(credential.key), _inputs_wanted(context, credential.content)
        if credential.key in seen.strangers or (have is not None and is_going(have)):
            continue
        if have is None or annotation_of(have, INPUTS) != inputs or now >= renewal_of(have):
            yield issue_of(credential, signer, inputs, have, now)


def next_renewal(seen: Observed, context: Context) -> float | None:
    """When the next certificate is due; None where none has been made yet."""
    found = [seen.children[one.key] for one in credentials_of(context) if one.key in seen.children]
    return min(map(renewal_of, found), default=None)


def renewal_of(secret: Object) -> float:
    """When two thirds of its life are over; at once where it doesn't say."""
    issued, expires = (unix_of(annotation_of(secret, name)) for name in (ISSUED, EXPIRES))
    return 0.0 if issued is None or expires is None else issued + (expires - issued) * 2 / 3


def issue_of(credential: Credential, signer: Signer, inputs: str, have: Object | None, now: float) -> Issue:
    """Have it signed: made, or put into the place of what there is. `inputs` names what the content is made from."""
    dates = {ISSUED: timestamp(now), EXPIRES: timestamp(now + credential.valid_s)}
    metadata = have["metadata"] if have else {}
    return Issue(
        annotated(credential.manifest, {INPUTS: inputs} | dates),
        credential.content,
        authority=signer.key,
        authority_uid=signer.uid,
        issued=now,
        valid_s=credential.valid_s,
        replaces=Version(metadata["uid"], metadata.get("resourceVersion", "")) if have else None,
    )


def _inputs_wanted(context: Context, content: Content) -> str:
    """What the content is made from: another authority or address makes it another."""
    if isinstance(content, ServerCertificate):
        return digest([context.authority_id, content.hosts])
    if isinstance(content, JoinBundle):
        bridge = [content.bridge] if content.bridge else []
        return digest([context.authority_id, content.realm, content.pool, content.address, *bridge])
    raise TypeError(f"no credential of a job: {content}")
