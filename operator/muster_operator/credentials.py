"""Which of a job's certificates have to be made, or made anew, and when the next one is due. Pure.

A Secret says in annotations from when to when its content holds, written in one request with the content. So a plan
needs to see no key, and a Secret whose annotations are gone is simply due. The authority holds for longer than any job
runs; what it signs is renewed when two thirds of its life are over, in place: kubelets show running pods the new
content, and the processes read it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muster_operator.actions import Action, CreateAuthority, Issue, JoinBundle, ServerCertificate, Version
from muster_operator.build.common import INPUTS, Context, annotated
from muster_operator.build.trust import build_authority, build_join, build_server
from muster_operator.objects import Key, Object, annotation_of, digest, is_going, key_of, timestamp, unix_of
from muster_operator.observed import Observed
from muster_spec.types import ResolvedPool

DAY_S = 86_400.0
AUTHORITY_S = 10 * 365 * DAY_S
CREDENTIAL_S = 30 * DAY_S
ISSUED, EXPIRES = "operator.muster.dev/issued", "operator.muster.dev/expires"


@dataclass(frozen=True, slots=True)
class Credential:
    """One Secret that the authority signs something for."""

    manifest: Object
    content: ServerCertificate | JoinBundle

    @property
    def key(self) -> Key:
        return key_of(self.manifest)


def credentials_of(context: Context) -> list[Credential]:
    """The coordinator's certificate, and the pools' bundles."""
    bundles = [Credential(build_join(context, pool.name), _join(context, pool)) for pool in context.job.pools]
    return [Credential(build_server(context), ServerCertificate(context.hosts)), *bundles]


def _join(context: Context, pool: ResolvedPool) -> JoinBundle:
    bridge = context.address if pool.spec.type == "Slurm" else ""
    return JoinBundle(context.job.uid, pool.name, context.address_of(pool), bridge)


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
    for credential in credentials_of(context):
        have = seen.children.get(credential.key)
        if credential.key in seen.strangers or (have is not None and is_going(have)):
            continue
        if have is None or _inputs(have) != _inputs_wanted(context, credential) or now >= renewal_of(have):
            yield _issue(context, credential, have, now)


def next_renewal(seen: Observed, context: Context) -> float | None:
    """When the next certificate is due; None where none has been made yet."""
    found = [seen.children[one.key] for one in credentials_of(context) if one.key in seen.children]
    return min(map(renewal_of, found), default=None)


def renewal_of(secret: Object) -> float:
    """When two thirds of its life are over; at once where it doesn't say."""
    issued, expires = (unix_of(annotation_of(secret, name)) for name in (ISSUED, EXPIRES))
    return 0.0 if issued is None or expires is None else issued + (expires - issued) * 2 / 3


def _issue(context: Context, credential: Credential, have: Object | None, now: float) -> Issue:
    dates = {ISSUED: timestamp(now), EXPIRES: timestamp(now + CREDENTIAL_S)}
    metadata = have["metadata"] if have else {}
    return Issue(
        annotated(credential.manifest, {INPUTS: _inputs_wanted(context, credential)} | dates),
        credential.content,
        authority=Key("Secret", context.authority_name),
        authority_uid=context.authority_id,
        issued=now,
        valid_s=CREDENTIAL_S,
        replaces=Version(metadata["uid"], metadata.get("resourceVersion", "")) if have else None,
    )


def _inputs(secret: Object) -> str:
    return annotation_of(secret, INPUTS)


def _inputs_wanted(context: Context, credential: Credential) -> str:
    """What the content is made from: another authority or address makes it another."""
    match credential.content:
        case ServerCertificate(hosts):
            return digest([context.authority_id, hosts])
        case JoinBundle(realm, pool, address, bridge):
            return digest([context.authority_id, realm, pool, address, *([bridge] if bridge else [])])
