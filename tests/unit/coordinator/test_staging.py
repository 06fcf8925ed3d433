from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from muster_coordinator.spare import MOST_FILES, SpareFiles
from muster_coordinator.staging import MEMORY_BYTES, StagingError, Upload
from muster_wire.codecs import CodecId
from muster_wire.errors import Cause, FrameError, PayloadError
from muster_wire.frames import Transfer, prepare
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, encode_update
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values


def transfer_of(values: Values, frame_bytes: int = 10_000) -> Transfer:
    payload = encode_update(values, CodecId.FLOAT32)
    return prepare(payload, values.layout, CodecId.FLOAT32, values.digest(), frame_bytes)


def update(size: int) -> Values:
    layout = Layout((TensorSpec("weight", (size,), "float32", Kind.TRAINABLE),))
    return Values.gather(layout, {"weight": np.arange(size)})


def open_files() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()}


def inodes(descriptors: set[int]) -> set[int]:
    """A mapping holds a descriptor of its own for the same file."""
    return {os.fstat(each).st_ino for each in descriptors}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SpareFiles]:
    files = SpareFiles(tmp_path)
    yield files
    files.close()


def send(upload: Upload, transfer: Transfer) -> None:
    for data in transfer.frames(upload.received):
        upload.add(pb.Frame.FromString(data))


@pytest.mark.parametrize("size", [0, 1, 100, MEMORY_BYTES // 4 - 24, MEMORY_BYTES // 4, MEMORY_BYTES])
def test_what_was_sent_is_what_is_read(files: SpareFiles, tmp_path: Path, size: int) -> None:
    values = update(size)
    transfer = transfer_of(values)
    with Upload(transfer.header, PayloadKind.UPDATE, files) as upload:
        send(upload, transfer)
        assert upload.is_complete
        assert upload.check().norm == pytest.approx(float(np.linalg.norm(values.trainable.astype(float))))
        view = upload.view()
        assert view.readonly
        assert view == bytes(transfer.payload)
    assert view == bytes(transfer.payload)  # a reader that is not done yet is not pulled the rug from under
    assert not list(tmp_path.iterdir())


def test_a_large_upload_lies_in_a_file_without_a_name_and_closing_frees_it(files: SpareFiles, tmp_path: Path) -> None:
    transfer = transfer_of(update(MEMORY_BYTES))
    before = open_files()
    upload = Upload(transfer.header, PayloadKind.UPDATE, files)
    send(upload, transfer)
    (descriptor,) = open_files() - before
    assert os.fstat(descriptor).st_size == len(transfer.payload)
    assert os.fstat(descriptor).st_nlink == 0
    assert not list(tmp_path.iterdir())
    upload.close()
    upload.close()
    assert open_files() == before | {descriptor}  # spare
    files.close()
    assert open_files() == before


def staged(values: Values, files: SpareFiles) -> Upload:
    transfer = transfer_of(values)
    upload = Upload(transfer.header, PayloadKind.UPDATE, files)
    send(upload, transfer)
    upload.check()
    return upload


def test_a_file_is_used_again_and_shows_nothing_of_what_it_held(files: SpareFiles) -> None:
    before = open_files()
    large, small = update(2 * MEMORY_BYTES), update(MEMORY_BYTES)
    staged(large, files).close()
    for values in (small, large, small):
        with staged(values, files) as upload:
            assert upload.view() == bytes(transfer_of(values).payload)
            assert len(inodes(open_files() - before)) == 1
    with staged(small, files) as one, staged(large, files) as other:
        assert [one.view(), other.view()] == [bytes(transfer_of(each).payload) for each in (small, large)]


def test_a_file_that_somebody_still_reads_is_not_used_again(files: SpareFiles) -> None:
    values, others = update(MEMORY_BYTES), update(MEMORY_BYTES)
    others.trainable[:] = 7
    with staged(values, files) as upload:
        view = upload.view()
    with staged(others, files):
        assert view == bytes(transfer_of(values).payload)


def test_few_files_are_kept(files: SpareFiles) -> None:
    before = open_files()
    uploads = [staged(update(MEMORY_BYTES), files) for _ in range(MOST_FILES + 3)]
    for upload in uploads:
        upload.close()
    assert len(open_files() - before) == MOST_FILES


def test_a_broken_upload_goes_on_where_it_was(files: SpareFiles) -> None:
    transfer = transfer_of(update(50_000))
    with Upload(transfer.header, PayloadKind.UPDATE, files) as upload:
        for turn in range(1, 1000):
            for _, data in zip(range(turn % 4), transfer.frames(upload.received), strict=False):
                upload.add(pb.Frame.FromString(data))
            if upload.is_complete:
                break
        upload.check()
        assert upload.view() == bytes(transfer.payload)


def test_an_unfinished_or_damaged_upload_fails_its_check(files: SpareFiles) -> None:
    transfer = transfer_of(update(50_000))
    with Upload(transfer.header, PayloadKind.UPDATE, files) as upload:
        upload.add(pb.Frame.FromString(next(transfer.frames())))
        with pytest.raises(FrameError, match="ended at 10000"):
            upload.check()


def test_a_bad_update_fails_its_check_with_the_cause(files: SpareFiles) -> None:
    values = update(50_000)
    values.trainable[49_999] = np.nan
    transfer = transfer_of(values)
    with Upload(transfer.header, PayloadKind.UPDATE, files) as upload:
        send(upload, transfer)
        with pytest.raises(PayloadError) as caught:
            upload.check()
        assert caught.value.cause is Cause.NOT_FINITE


def test_a_header_of_another_size_is_refused_at_once(files: SpareFiles) -> None:
    message = transfer_of(update(10)).header.to_message()
    message.size = 2**62
    with pytest.raises(PayloadError, match="promises"):
        Upload(type(transfer_of(update(10)).header).from_message(message), PayloadKind.UPDATE, files)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As good as a full disk: the kernel refuses to let any file grow beyond this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("limit", [5_000, 100_001])
def test_a_full_disk_is_one_clear_error_and_the_upload_goes_on_when_there_is_room(
    files: SpareFiles, tmp_path: Path, limit: int
) -> None:
    transfer = transfer_of(update(50_000))
    with Upload(transfer.header, PayloadKind.UPDATE, files) as upload:
        with largest_file(limit), pytest.raises(StagingError, match=f"{tmp_path}: no room for an upload"):
            send(upload, transfer)
        assert upload.received < len(transfer.payload)
        send(upload, transfer)
        upload.check()
        assert upload.view() == bytes(transfer.payload)


def test_a_missing_directory_is_the_same_error(files: SpareFiles, tmp_path: Path) -> None:
    transfer = transfer_of(update(50_000))
    files = SpareFiles(tmp_path / "gone")
    with Upload(transfer.header, PayloadKind.UPDATE, files) as upload, pytest.raises(StagingError):
        send(upload, transfer)
