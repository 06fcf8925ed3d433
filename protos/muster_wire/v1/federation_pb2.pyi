from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CodecId(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_UNSPECIFIED: _ClassVar[CodecId]
    CODEC_FLOAT32: _ClassVar[CodecId]
    CODEC_FLOAT16: _ClassVar[CodecId]
    CODEC_BFLOAT16: _ClassVar[CodecId]
    CODEC_INT8: _ClassVar[CodecId]
    CODEC_INT4: _ClassVar[CodecId]
    CODEC_ONE_BIT: _ClassVar[CodecId]
    CODEC_SIGN: _ClassVar[CodecId]
    CODEC_SPARSE: _ClassVar[CodecId]
    CODEC_LOSSLESS: _ClassVar[CodecId]
CODEC_UNSPECIFIED: CodecId
CODEC_FLOAT32: CodecId
CODEC_FLOAT16: CodecId
CODEC_BFLOAT16: CodecId
CODEC_INT8: CodecId
CODEC_INT4: CodecId
CODEC_ONE_BIT: CodecId
CODEC_SIGN: CodecId
CODEC_SPARSE: CodecId
CODEC_LOSSLESS: CodecId

class Version(_message.Message):
    __slots__ = ("major", "minor")
    MAJOR_FIELD_NUMBER: _ClassVar[int]
    MINOR_FIELD_NUMBER: _ClassVar[int]
    major: int
    minor: int
    def __init__(self, major: _Optional[int] = ..., minor: _Optional[int] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("version", "software", "worker", "pool", "indices", "capacity", "codecs", "device", "held_assignments", "sub_models", "control_variates", "confirms_end", "leases_move", "share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    CODECS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    HELD_ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    SUB_MODELS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_VARIATES_FIELD_NUMBER: _ClassVar[int]
    CONFIRMS_END_FIELD_NUMBER: _ClassVar[int]
    LEASES_MOVE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    version: Version
    software: str
    worker: str
    pool: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    capacity: int
    codecs: _containers.RepeatedScalarFieldContainer[CodecId]
    device: str
    held_assignments: _containers.RepeatedScalarFieldContainer[str]
    sub_models: bool
    control_variates: bool
    confirms_end: bool
    leases_move: bool
    share: int
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., software: _Optional[str] = ..., worker: _Optional[str] = ..., pool: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ..., capacity: _Optional[int] = ..., codecs: _Optional[_Iterable[_Union[CodecId, str]]] = ..., device: _Optional[str] = ..., held_assignments: _Optional[_Iterable[str]] = ..., sub_models: _Optional[bool] = ..., control_variates: _Optional[bool] = ..., confirms_end: _Optional[bool] = ..., leases_move: _Optional[bool] = ..., share: _Optional[int] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("version", "session", "job_uid", "clients", "work", "beat_interval_ms", "lease_seconds", "frame_bytes", "log_bytes", "hand_in_bytes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    JOB_UID_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    BEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    HAND_IN_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: Version
    session: str
    job_uid: str
    clients: _containers.RepeatedCompositeFieldContainer[ClientGrant]
    work: str
    beat_interval_ms: int
    lease_seconds: int
    frame_bytes: int
    log_bytes: int
    hand_in_bytes: int
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., session: _Optional[str] = ..., job_uid: _Optional[str] = ..., clients: _Optional[_Iterable[_Union[ClientGrant, _Mapping]]] = ..., work: _Optional[str] = ..., beat_interval_ms: _Optional[int] = ..., lease_seconds: _Optional[int] = ..., frame_bytes: _Optional[int] = ..., log_bytes: _Optional[int] = ..., hand_in_bytes: _Optional[int] = ...) -> None: ...

class ClientGrant(_message.Message):
    __slots__ = ("pool", "index", "ordinal", "clients_total", "pool_clients")
    POOL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    POOL_CLIENTS_FIELD_NUMBER: _ClassVar[int]
    pool: str
    index: int
    ordinal: int
    clients_total: int
    pool_clients: int
    def __init__(self, pool: _Optional[str] = ..., index: _Optional[int] = ..., ordinal: _Optional[int] = ..., clients_total: _Optional[int] = ..., pool_clients: _Optional[int] = ...) -> None: ...

class ListenRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class Orders(_message.Message):
    __slots__ = ("revision", "assignments", "settlements", "finished", "reason", "round", "handover", "more", "frames")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    HANDOVER_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    settlements: _containers.RepeatedCompositeFieldContainer[Settlement]
    finished: bool
    reason: str
    round: int
    handover: Handover
    more: bool
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, revision: _Optional[int] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., settlements: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ..., finished: _Optional[bool] = ..., reason: _Optional[str] = ..., round: _Optional[int] = ..., handover: _Optional[_Union[Handover, _Mapping]] = ..., more: _Optional[bool] = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class Handover(_message.Message):
    __slots__ = ("pool", "indices", "count")
    POOL_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    pool: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    count: int
    def __init__(self, pool: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("id", "pool", "index", "round", "initialise", "train", "evaluate")
    ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    INITIALISE_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    pool: str
    index: int
    round: int
    initialise: Initialise
    train: Train
    evaluate: Evaluate
    def __init__(self, id: _Optional[str] = ..., pool: _Optional[str] = ..., index: _Optional[int] = ..., round: _Optional[int] = ..., initialise: _Optional[_Union[Initialise, _Mapping]] = ..., train: _Optional[_Union[Train, _Mapping]] = ..., evaluate: _Optional[_Union[Evaluate, _Mapping]] = ...) -> None: ...

class Initialise(_message.Message):
    __slots__ = ("seed", "groups")
    SEED_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    seed: int
    groups: bool
    def __init__(self, seed: _Optional[int] = ..., groups: _Optional[bool] = ...) -> None: ...

class Train(_message.Message):
    __slots__ = ("base", "seed", "time_left_ms", "codec", "recipe", "sub_model", "budget_ms", "steps", "sampling", "matched", "participations")
    BASE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TIME_LEFT_MS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    SUB_MODEL_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    PARTICIPATIONS_FIELD_NUMBER: _ClassVar[int]
    base: str
    seed: int
    time_left_ms: int
    codec: CodecId
    recipe: Recipe
    sub_model: SubModel
    budget_ms: int
    steps: int
    sampling: Sampling
    matched: Matched
    participations: int
    def __init__(self, base: _Optional[str] = ..., seed: _Optional[int] = ..., time_left_ms: _Optional[int] = ..., codec: _Optional[_Union[CodecId, str]] = ..., recipe: _Optional[_Union[Recipe, _Mapping]] = ..., sub_model: _Optional[_Union[SubModel, _Mapping]] = ..., budget_ms: _Optional[int] = ..., steps: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., matched: _Optional[_Union[Matched, _Mapping]] = ..., participations: _Optional[int] = ...) -> None: ...

class Matched(_message.Message):
    __slots__ = ("phase", "places")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    phase: int
    places: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, phase: _Optional[int] = ..., places: _Optional[_Iterable[int]] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("threshold", "budget_ms")
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    budget_ms: int
    def __init__(self, threshold: _Optional[float] = ..., budget_ms: _Optional[int] = ...) -> None: ...

class SubModel(_message.Message):
    __slots__ = ("seed", "number", "masks", "keep", "groups")
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    seed: int
    number: int
    masks: int
    keep: float
    groups: str
    def __init__(self, seed: _Optional[int] = ..., number: _Optional[int] = ..., masks: _Optional[int] = ..., keep: _Optional[float] = ..., groups: _Optional[str] = ...) -> None: ...

class Evaluate(_message.Message):
    __slots__ = ("model", "scope")
    class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SCOPE_UNSPECIFIED: _ClassVar[Evaluate.Scope]
        SCOPE_CENTRAL: _ClassVar[Evaluate.Scope]
        SCOPE_LOCAL: _ClassVar[Evaluate.Scope]
    SCOPE_UNSPECIFIED: Evaluate.Scope
    SCOPE_CENTRAL: Evaluate.Scope
    SCOPE_LOCAL: Evaluate.Scope
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    model: str
    scope: Evaluate.Scope
    def __init__(self, model: _Optional[str] = ..., scope: _Optional[_Union[Evaluate.Scope, str]] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("assignment", "fate", "reason")
    class Fate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FATE_UNSPECIFIED: _ClassVar[Settlement.Fate]
        FATE_USED: _ClassVar[Settlement.Fate]
        FATE_UNUSED: _ClassVar[Settlement.Fate]
    FATE_UNSPECIFIED: Settlement.Fate
    FATE_USED: Settlement.Fate
    FATE_UNUSED: Settlement.Fate
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    FATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    fate: Settlement.Fate
    reason: str
    def __init__(self, assignment: _Optional[str] = ..., fate: _Optional[_Union[Settlement.Fate, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("session", "digest", "offset", "held", "partial")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    session: str
    digest: str
    offset: int
    held: str
    partial: str
    def __init__(self, session: _Optional[str] = ..., digest: _Optional[str] = ..., offset: _Optional[int] = ..., held: _Optional[str] = ..., partial: _Optional[str] = ...) -> None: ...

class TransferHeader(_message.Message):
    __slots__ = ("codec", "size", "checksum", "layout", "digest", "pipeline", "base")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    codec: CodecId
    size: int
    checksum: str
    layout: str
    digest: str
    pipeline: Pipeline
    base: str
    def __init__(self, codec: _Optional[_Union[CodecId, str]] = ..., size: _Optional[int] = ..., checksum: _Optional[str] = ..., layout: _Optional[str] = ..., digest: _Optional[str] = ..., pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., base: _Optional[str] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("header", "offset", "checksum", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: TransferHeader
    offset: int
    checksum: int
    data: bytes
    def __init__(self, header: _Optional[_Union[TransferHeader, _Mapping]] = ..., offset: _Optional[int] = ..., checksum: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("offer", "frame")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    offer: Offer
    frame: Frame
    def __init__(self, offer: _Optional[_Union[Offer, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("session", "assignment", "header", "examples", "steps", "metrics", "train_ms", "memory_lost", "probe")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_MS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LOST_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    session: str
    assignment: str
    header: TransferHeader
    examples: int
    steps: int
    metrics: _containers.ScalarMap[str, float]
    train_ms: int
    memory_lost: bool
    probe: Probe
    def __init__(self, session: _Optional[str] = ..., assignment: _Optional[str] = ..., header: _Optional[_Union[TransferHeader, _Mapping]] = ..., examples: _Optional[int] = ..., steps: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., train_ms: _Optional[int] = ..., memory_lost: _Optional[bool] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class HandInRequest(_message.Message):
    __slots__ = ("offer", "frame")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    offer: Offer
    frame: Frame
    def __init__(self, offer: _Optional[_Union[Offer, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("before", "after", "fewer")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FEWER_FIELD_NUMBER: _ClassVar[int]
    before: float
    after: float
    fewer: float
    def __init__(self, before: _Optional[float] = ..., after: _Optional[float] = ..., fewer: _Optional[float] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("proceed", "verdict", "wait")
    PROCEED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    proceed: Proceed
    verdict: Verdict
    wait: Wait
    def __init__(self, proceed: _Optional[_Union[Proceed, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., wait: _Optional[_Union[Wait, _Mapping]] = ...) -> None: ...

class Proceed(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class Wait(_message.Message):
    __slots__ = ("milliseconds",)
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    milliseconds: int
    def __init__(self, milliseconds: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("accepted", "reason", "cause")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[Verdict.Cause]
        CAUSE_LATE: _ClassVar[Verdict.Cause]
        CAUSE_UNKNOWN_ASSIGNMENT: _ClassVar[Verdict.Cause]
        CAUSE_MALFORMED: _ClassVar[Verdict.Cause]
        CAUSE_WRONG_LAYOUT: _ClassVar[Verdict.Cause]
        CAUSE_NOT_FINITE: _ClassVar[Verdict.Cause]
        CAUSE_NORM: _ClassVar[Verdict.Cause]
        CAUSE_TOO_LARGE: _ClassVar[Verdict.Cause]
        CAUSE_NOT_YOURS: _ClassVar[Verdict.Cause]
    CAUSE_UNSPECIFIED: Verdict.Cause
    CAUSE_LATE: Verdict.Cause
    CAUSE_UNKNOWN_ASSIGNMENT: Verdict.Cause
    CAUSE_MALFORMED: Verdict.Cause
    CAUSE_WRONG_LAYOUT: Verdict.Cause
    CAUSE_NOT_FINITE: Verdict.Cause
    CAUSE_NORM: Verdict.Cause
    CAUSE_TOO_LARGE: Verdict.Cause
    CAUSE_NOT_YOURS: Verdict.Cause
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    cause: Verdict.Cause
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ..., cause: _Optional[_Union[Verdict.Cause, str]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("session", "assignment", "examples", "metrics", "error")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    session: str
    assignment: str
    examples: int
    metrics: _containers.ScalarMap[str, float]
    error: str
    def __init__(self, session: _Optional[str] = ..., assignment: _Optional[str] = ..., examples: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., error: _Optional[str] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BeatRequest(_message.Message):
    __slots__ = ("session", "progress", "finished", "log")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    session: str
    progress: _containers.RepeatedCompositeFieldContainer[Progress]
    finished: bool
    log: LogTail
    def __init__(self, session: _Optional[str] = ..., progress: _Optional[_Iterable[_Union[Progress, _Mapping]]] = ..., finished: _Optional[bool] = ..., log: _Optional[_Union[LogTail, _Mapping]] = ...) -> None: ...

class LogTail(_message.Message):
    __slots__ = ("first", "left_out", "lines")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    first: int
    left_out: int
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, first: _Optional[int] = ..., left_out: _Optional[int] = ..., lines: _Optional[_Iterable[str]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("assignment", "activity", "fraction")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    activity: str
    fraction: float
    def __init__(self, assignment: _Optional[str] = ..., activity: _Optional[str] = ..., fraction: _Optional[float] = ...) -> None: ...

class BeatReply(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class MeasureRequest(_message.Message):
    __slots__ = ("session", "payload", "wanted", "profile")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    session: str
    payload: bytes
    wanted: int
    profile: Profile
    def __init__(self, session: _Optional[str] = ..., payload: _Optional[bytes] = ..., wanted: _Optional[int] = ..., profile: _Optional[_Union[Profile, _Mapping]] = ...) -> None: ...

class MeasureReply(_message.Message):
    __slots__ = ("payload", "most")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    most: int
    def __init__(self, payload: _Optional[bytes] = ..., most: _Optional[int] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("flops", "memory_bytes", "latency_s", "up_bytes_per_s", "down_bytes_per_s")
    FLOPS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    UP_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    DOWN_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    flops: float
    memory_bytes: int
    latency_s: float
    up_bytes_per_s: float
    down_bytes_per_s: float
    def __init__(self, flops: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., latency_s: _Optional[float] = ..., up_bytes_per_s: _Optional[float] = ..., down_bytes_per_s: _Optional[float] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    def __init__(self, request: _Optional[bytes] = ...) -> None: ...

class EnrolReply(_message.Message):
    __slots__ = ("chain", "authorities")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    chain: bytes
    authorities: bytes
    def __init__(self, chain: _Optional[bytes] = ..., authorities: _Optional[bytes] = ...) -> None: ...

class AttendRequest(_message.Message):
    __slots__ = ("version", "pool", "allocations", "log", "log_read")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    LOG_READ_FIELD_NUMBER: _ClassVar[int]
    version: Version
    pool: str
    allocations: _containers.RepeatedCompositeFieldContainer[Allocation]
    log: str
    log_read: int
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., pool: _Optional[str] = ..., allocations: _Optional[_Iterable[_Union[Allocation, _Mapping]]] = ..., log: _Optional[str] = ..., log_read: _Optional[int] = ...) -> None: ...

class Allocation(_message.Message):
    __slots__ = ("indices", "state", "starts_in_ms", "ends_in_ms", "lasts_ms")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Allocation.State]
        STATE_QUEUED: _ClassVar[Allocation.State]
        STATE_RUNNING: _ClassVar[Allocation.State]
    STATE_UNSPECIFIED: Allocation.State
    STATE_QUEUED: Allocation.State
    STATE_RUNNING: Allocation.State
    INDICES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STARTS_IN_MS_FIELD_NUMBER: _ClassVar[int]
    ENDS_IN_MS_FIELD_NUMBER: _ClassVar[int]
    LASTS_MS_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    state: Allocation.State
    starts_in_ms: int
    ends_in_ms: int
    lasts_ms: int
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., state: _Optional[_Union[Allocation.State, str]] = ..., starts_in_ms: _Optional[int] = ..., ends_in_ms: _Optional[int] = ..., lasts_ms: _Optional[int] = ...) -> None: ...

class AttendReply(_message.Message):
    __slots__ = ("version", "present", "complete", "log", "log_read", "lines", "fruitless")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    LOG_READ_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    FRUITLESS_FIELD_NUMBER: _ClassVar[int]
    version: Version
    present: _containers.RepeatedScalarFieldContainer[int]
    complete: bool
    log: str
    log_read: int
    lines: _containers.RepeatedCompositeFieldContainer[LogLine]
    fruitless: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., present: _Optional[_Iterable[int]] = ..., complete: _Optional[bool] = ..., log: _Optional[str] = ..., log_read: _Optional[int] = ..., lines: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ..., fruitless: _Optional[_Iterable[int]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("source", "text")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    source: str
    text: str
    def __init__(self, source: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Pipeline(_message.Message):
    __slots__ = ("numbers", "flags", "block")
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    numbers: CodecId
    flags: int
    block: int
    def __init__(self, numbers: _Optional[_Union[CodecId, str]] = ..., flags: _Optional[int] = ..., block: _Optional[int] = ...) -> None: ...

class Recipe(_message.Message):
    __slots__ = ("pipeline", "share", "per_tensor", "sampled", "momentum", "warm_up", "error_feedback", "probe")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    PER_TENSOR_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    WARM_UP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    pipeline: Pipeline
    share: float
    per_tensor: bool
    sampled: bool
    momentum: float
    warm_up: int
    error_feedback: bool
    probe: float
    def __init__(self, pipeline: _Optional[_Union[Pipeline, _Mapping]] = ..., share: _Optional[float] = ..., per_tensor: _Optional[bool] = ..., sampled: _Optional[bool] = ..., momentum: _Optional[float] = ..., warm_up: _Optional[int] = ..., error_feedback: _Optional[bool] = ..., probe: _Optional[float] = ...) -> None: ...
