"""The exception tree: names, texts, codes and pickling."""

import pickle

import pytest

from icechunk import errors
from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    ErrorKind,
    FormatError,
    IcechunkError,
    InternalError,
    InvalidInputError,
    NodeNotFoundError,
    NotFoundError,
    ReadOnlyError,
    RebaseFailedError,
    RefNotFoundError,
    RepositoryNotFoundError,
    SessionStateError,
    SnapshotNotFoundError,
    StorageError,
    operation,
)

SIMPLE = [
    IcechunkError,
    NotFoundError,
    NodeNotFoundError,
    SnapshotNotFoundError,
    RefNotFoundError,
    RepositoryNotFoundError,
    AlreadyExistsError,
    ReadOnlyError,
    InvalidInputError,
    SessionStateError,
    StorageError,
    FormatError,
    InternalError,
]

PARENTS = {
    ConflictError: [IcechunkError],
    RebaseFailedError: [ConflictError],
    NotFoundError: [IcechunkError, KeyError],
    NodeNotFoundError: [NotFoundError],
    SnapshotNotFoundError: [NotFoundError],
    RefNotFoundError: [NotFoundError],
    RepositoryNotFoundError: [NotFoundError],
    AlreadyExistsError: [IcechunkError],
    ReadOnlyError: [IcechunkError],
    InvalidInputError: [IcechunkError, ValueError],
    SessionStateError: [IcechunkError],
    StorageError: [IcechunkError],
    FormatError: [IcechunkError],
    InternalError: [IcechunkError],
}


@pytest.mark.parametrize(("cls", "parents"), PARENTS.items())
def test_tree(cls: type, parents: list[type]) -> None:
    assert list(cls.__bases__) == parents


@pytest.mark.parametrize("cls", SIMPLE)
def test_text_kind_and_args(cls: type[IcechunkError]) -> None:
    plain = cls("it's gone")
    assert str(plain) == plain.message == "it's gone"
    assert plain.kind == "unknown"
    coded = cls("gone", ErrorKind.IO)
    assert coded.args == ("gone", "io")
    assert (coded.kind, type(coded.kind)) == ("io", str)
    assert repr(coded) == f'icechunk.{cls.__name__}(message="gone", kind="io")'


@pytest.mark.parametrize("cls", [*SIMPLE, ConflictError, RebaseFailedError])
def test_public_module(cls: type) -> None:
    assert cls.__module__ == "icechunk"


def test_message_is_text() -> None:
    with pytest.raises(TypeError, match="must be str, not int"):
        IcechunkError(1)  # type: ignore[arg-type]


def test_conflict() -> None:
    error = ConflictError("abc", "def")
    assert (
        str(error) == 'Failed to commit, expected parent: Some("abc"), actual parent: Some("def")'
    )
    assert repr(error) == "icechunk.ConflictError(expected_parent=abc, actual_parent=def)"
    assert (error.expected_parent, error.actual_parent) == ("abc", "def")
    assert error.kind == ErrorKind.COMMIT_CONFLICT
    assert str(ConflictError()) == "Failed to commit, expected parent: None, actual parent: None"
    assert str(ConflictError(None, None, "msg", "k")) == "msg"
    assert ConflictError(None, None, "msg", "k").kind == "k"


def test_rebase_failed() -> None:
    error = RebaseFailedError("S", ["one", "two"])
    assert str(error) == "Rebase failed on snapshot S: 2 conflicts found"
    assert repr(error) == "icechunk.RebaseFailedError(snapshot=\"S\", conflicts=['one', 'two'])"
    assert error.kind == "rebase-failed"
    assert (error.expected_parent, error.actual_parent) == (None, None)
    assert error.args == ("S", ["one", "two"])


def _same(error: IcechunkError) -> IcechunkError:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert copy.args == error.args
    assert (str(copy), repr(copy)) == (str(error), repr(error))
    return copy


@pytest.mark.parametrize("cls", SIMPLE)
def test_pickle(cls: type[IcechunkError]) -> None:
    _same(cls("text", ErrorKind.IO))


def test_pickle_keeps_what_was_added() -> None:
    _same(ConflictError("a", message="m"))
    _same(RebaseFailedError("S", ["c"]))
    error = StorageError("text")
    error.add_context("get", id=3)
    error.add_note("a long report")
    assert _same(error).__notes__ == ["a long report"]


def test_context_lists_operations_from_the_inside_out() -> None:
    def fail() -> None:
        with operation("get", key="k"), operation("fetch_manifest", id="M1", size=3):
            raise NotFoundError("object not found", ErrorKind.OBJECT_NOT_FOUND)

    with pytest.raises(NotFoundError) as caught:
        fail()
    assert str(caught.value) == (
        "object not found\n\ncontext:\n   0: fetch_manifest with id=M1 size=3\n   1: get with key=k"
    )
    assert caught.value.args == (str(caught.value), "object-not-found")


def test_context_leaves_conflicts_and_others_alone() -> None:
    with pytest.raises(ConflictError) as caught, operation("commit"):
        raise ConflictError("a", "b")
    assert "context" not in str(caught.value)
    with pytest.raises(OSError, match=r"^disk$"), operation("commit"):
        raise OSError("disk")


def test_kinds() -> None:
    kinds = errors._all_error_kinds()
    assert kinds == [str(kind) for kind in ErrorKind]
    assert len(kinds) == len(set(kinds)) == 100
    assert all(kind.name == kind.value.upper().replace("-", "_") for kind in ErrorKind)
    assert ErrorKind.GC_DELETES_FAILING == "gc-deletes-failing"
