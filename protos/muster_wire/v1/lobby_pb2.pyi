from muster_wire.v1 import federation_pb2 as _federation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnterRequest(_message.Message):
    __slots__ = ("version", "software", "worker", "standing")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    version: _federation_pb2.Version
    software: str
    worker: str
    standing: Standing
    def __init__(self, version: _Optional[_Union[_federation_pb2.Version, _Mapping]] = ..., software: _Optional[str] = ..., worker: _Optional[str] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class TellRequest(_message.Message):
    __slots__ = ("worker", "standing")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    worker: str
    standing: Standing
    def __init__(self, worker: _Optional[str] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class TellReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Standing(_message.Message):
    __slots__ = ("job", "refusals")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    job: str
    refusals: _containers.RepeatedCompositeFieldContainer[SiteRefusal]
    def __init__(self, job: _Optional[str] = ..., refusals: _Optional[_Iterable[_Union[SiteRefusal, _Mapping]]] = ...) -> None: ...

class SiteRefusal(_message.Message):
    __slots__ = ("job", "because", "message")
    class Because(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BECAUSE_UNSPECIFIED: _ClassVar[SiteRefusal.Because]
        BECAUSE_JOB: _ClassVar[SiteRefusal.Because]
        BECAUSE_ENTRYPOINT: _ClassVar[SiteRefusal.Because]
        BECAUSE_CODE: _ClassVar[SiteRefusal.Because]
        BECAUSE_IMAGE: _ClassVar[SiteRefusal.Because]
        BECAUSE_PRIVACY: _ClassVar[SiteRefusal.Because]
        BECAUSE_LIMIT: _ClassVar[SiteRefusal.Because]
        BECAUSE_TERMS: _ClassVar[SiteRefusal.Because]
        BECAUSE_CANNOT: _ClassVar[SiteRefusal.Because]
    BECAUSE_UNSPECIFIED: SiteRefusal.Because
    BECAUSE_JOB: SiteRefusal.Because
    BECAUSE_ENTRYPOINT: SiteRefusal.Because
    BECAUSE_CODE: SiteRefusal.Because
    BECAUSE_IMAGE: SiteRefusal.Because
    BECAUSE_PRIVACY: SiteRefusal.Because
    BECAUSE_LIMIT: SiteRefusal.Because
    BECAUSE_TERMS: SiteRefusal.Because
    BECAUSE_CANNOT: SiteRefusal.Because
    JOB_FIELD_NUMBER: _ClassVar[int]
    BECAUSE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job: str
    because: SiteRefusal.Because
    message: str
    def __init__(self, job: _Optional[str] = ..., because: _Optional[_Union[SiteRefusal.Because, str]] = ..., message: _Optional[str] = ...) -> None: ...

class JobOffers(_message.Message):
    __slots__ = ("version", "offers")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    version: _federation_pb2.Version
    offers: _containers.RepeatedCompositeFieldContainer[JobOffer]
    def __init__(self, version: _Optional[_Union[_federation_pb2.Version, _Mapping]] = ..., offers: _Optional[_Iterable[_Union[JobOffer, _Mapping]]] = ...) -> None: ...

class JobOffer(_message.Message):
    __slots__ = ("job", "namespace", "name", "pool", "coordinator", "authorities", "terms", "capacity", "share")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    job: str
    namespace: str
    name: str
    pool: str
    coordinator: str
    authorities: bytes
    terms: str
    capacity: int
    share: int
    def __init__(self, job: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., pool: _Optional[str] = ..., coordinator: _Optional[str] = ..., authorities: _Optional[bytes] = ..., terms: _Optional[str] = ..., capacity: _Optional[int] = ..., share: _Optional[int] = ...) -> None: ...
