"""Errors of the storage library, told apart by what a person can do about them."""

import errno

import pytest

from indexer.errors import StoreError
from indexer.store.health import code_of, is_damage, store_errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "x"), "disk_full"),
        (
            RuntimeError("lance error: LanceError(IO): No space left on device (os error 28), /root/.cargo/x.rs"),
            "disk_full",
        ),
        (RuntimeError("Read-only file system (os error 30)"), "read_only"),
        (PermissionError(errno.EACCES, "x"), "permission"),
        (RuntimeError("lance error: Not found: /x/_versions"), "damaged"),
        (RuntimeError("Encountered corrupt file"), "damaged"),
        (RuntimeError("Too many concurrent writers"), "internal"),
        (ValueError("anything"), "internal"),
        (StoreError("x", "newer_version"), "newer_version"),
    ],
)
def test_code_says_what_is_wrong(error: Exception, code: str) -> None:
    assert code_of(error) == code


def test_message_is_for_people_and_keeps_its_cause() -> None:
    with pytest.raises(StoreError, match=r"^could not write: the disk is full") as told, store_errors("write"):
        raise RuntimeError("No space left on device, /root/.cargo/registry/src/x.rs:1")
    assert "cargo" not in str(told.value)
    assert isinstance(told.value.__cause__, RuntimeError)


def test_errors_of_our_own_pass_unchanged() -> None:
    ours = StoreError("ours", "unsupported")
    with pytest.raises(StoreError) as told, store_errors("write"):
        raise ours
    assert told.value is ours


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (RuntimeError("Encountered corrupt file"), True),
        (RuntimeError("lance error: something never seen"), True),
        (RuntimeError("Too many open files (os error 24)"), False),
        (RuntimeError("Input/output error (os error 5)"), False),
        (OSError(errno.EMFILE, "Too many open files"), False),
        (RuntimeError("No space left on device"), False),
        (StoreError("x", "newer_version"), False),
    ],
)
def test_only_bad_files_justify_setting_a_table_aside(error: Exception, ours: bool) -> None:
    assert is_damage(error) is ours


def test_a_panic_of_the_storage_library_is_damage_that_can_be_mended() -> None:
    class RustPanic(Exception):
        """In no module, like theirs."""

    with pytest.raises(StoreError) as met, store_errors("read the index"):
        raise RustPanic("rust future panicked: unknown error")
    assert met.value.code == "internal"
    assert met.value.__cause__ is not None
    assert is_damage(met.value.__cause__)
