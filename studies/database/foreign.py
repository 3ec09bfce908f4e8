"""Rows that no Exeunt wrote: SQLite takes any value in any column, and anybody can edit a file."""

from collections.abc import Generator
from contextlib import contextmanager

from ...backends.errors import ExeuntError, StorageError

# What taking a value for something else raises; a file that can't be read at all is `errors.py`'s.
STRANGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError)


@contextmanager
def contradicting_rows(where: str) -> Generator[None]:
    """Within this block, which works on a study, rows that contradict what is written beside them raise `StorageError`.

    `where` is the database in words, without a password.
    """
    from sqlalchemy.exc import IntegrityError

    try:
        yield
    except IntegrityError as error:
        raise _foreign(where, error) from error


@contextmanager
def corrupt_rows(where: str) -> Generator[None]:
    """Within this block rows that make no sense raise `StorageError` with what to do.

    It reads, or writes in transactions that such an error takes back.

    `where` is the database in words, without a password.
    """
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    try:
        yield
    except (ExeuntError, IntegrityError):
        raise
    except (*STRANGE, SQLAlchemyError) as error:
        raise _foreign(where, error) from error


@contextmanager
def corrupt_values(where: str) -> Generator[None]:
    """Within this block, which reads rows, values that make no sense raise `StorageError`; a database's own errors
    stay what they are, since waiting may help with them."""
    try:
        yield
    except STRANGE as error:
        raise _foreign(where, error) from error


def foreign(where: str, reason: str) -> StorageError:
    """The error for a database, in words, that holds what none of ours can have written."""
    return StorageError(
        f"storage: {where} holds something that Exeunt did not write ({reason}). "
        "Type `exeunt db check`, or restore it from a backup."
    )


def _foreign(where: str, error: Exception) -> StorageError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    return foreign(where, f"{type(error).__name__}: {reason}")
