"""What a job is remembered by: the spec that it was pinned to with its code, and the ledger beside it. Kept twice.

The ConfigMap is what the coordinator reads. Its copy is packed into annotations of the coordinator's ServiceAccount,
which is there for as long as the job: an object of another kind, so that nobody who clears ConfigMaps away takes both.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib

import msgspec

from muster_operator.build.common import COORDINATOR, Context, annotated, manifest
from muster_operator.build.coordinator import CODE_KEY, JOB_KEY, SPEC_DIGEST
from muster_operator.objects import Object, annotation_of

COPY = "operator.muster.dev/copy"
"""Annotation of the ServiceAccount: the data of the ConfigMap."""

_COPY_BYTES = 192 * 1024  # all annotations of an object may take 256 KiB
_DATA_BYTES = 4 * 1024 * 1024  # a ConfigMap holds 1 MiB, and quotes take more within quotes


def build_memory(context: Context, text: str, ledger: dict[str, str]) -> list[Object]:
    """The ConfigMap, and the ServiceAccount with its copy."""
    config = _config(context, text, ledger)
    return [config, _account(context, config)]


def _config(context: Context, text: str, ledger: dict[str, str]) -> Object:
    data = {JOB_KEY: text} | ({CODE_KEY: json.dumps(dict(context.code))} if context.code else {})
    whole = manifest(context.job, "ConfigMap", context.config_name, COORDINATOR, immutable=True, data=data)
    return annotated(whole, {SPEC_DIGEST: context.spec_digest} | ledger)


def _account(context: Context, config: Object) -> Object:
    """What doesn't fit even when packed isn't copied: then only the ledger is kept twice."""
    packed = _packed(config["data"])
    copy = {COPY: packed} if len(packed) <= _COPY_BYTES else {}
    name = context.coordinator_name
    whole = manifest(context.job, "ServiceAccount", name, COORDINATOR, automountServiceAccountToken=False)
    return annotated(whole, config["metadata"]["annotations"] | copy)


def restored(account: Object) -> Object | None:
    """The ConfigMap as it was, by its copy; None where there is none, or it can't be read."""
    data = _unpacked(annotation_of(account, COPY))
    return {"kind": "ConfigMap", "metadata": account["metadata"], "data": data} if data else None


def _packed(data: dict[str, str]) -> str:
    return base64.b64encode(zlib.compress(json.dumps(data).encode())).decode()


def _unpacked(text: str) -> dict[str, str] | None:
    """However little was packed, no more comes out than a ConfigMap can hold: who may annotate isn't who we are."""
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(base64.b64decode(text, validate=True), _DATA_BYTES)
        return msgspec.json.decode(raw, type=dict[str, str]) if unpacking.eof else None
    except (binascii.Error, zlib.error, msgspec.MsgspecError):
        return None
