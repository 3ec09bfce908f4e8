"""The types of our columns. SQLite keeps any value in any column, so what is read is checked against the column's type.

PostgreSQL keeps to the types itself, and there the database's own conversions stand. What SQL works out of columns has
their types too: sums and differences of numbers of a type must be of it.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, NoReturn, Protocol

from sqlalchemy import BigInteger, Dialect, Float, Integer, LargeBinary, String, Text
from sqlalchemy.types import TypeDecorator

from .foreign import foreign

YEAR_10000 = 253402300800.0  # in seconds since 1970; Python's dates end before it


class _Processor(Protocol):
    def __call__(self, value: Any) -> Any: ...


class _Checked(TypeDecorator[Any]):
    """A type whose values are checked when SQLite hands them out. NULL passes: outer joins have it in any column."""

    impl = String
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> _Processor | None:
        """Of SQLAlchemy: what each value read from the database is sent through.

        It raises `StorageError` for a value of another type.
        """
        return self.check if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    @staticmethod
    def check(value: Any) -> Any:
        """The value, if a column of this type can hold it."""
        raise NotImplementedError


def _refuse(rule: str, value: object) -> NoReturn:
    raise foreign("the database", f"in place of {rule} there is {value!r:.80}")


class Words(_Checked):
    """Text; with a length, of at most so many characters."""

    impl = String
    cache_ok = True

    @staticmethod
    def check(value: Any) -> Any:
        if type(value) is str or value is None:
            return value
        _refuse("text", value)


class LongWords(Words):
    """Text of any length."""

    impl = Text
    cache_ok = True


class Whole(_Checked):
    """A whole number, on PostgreSQL of 32 bits."""

    impl = Integer
    cache_ok = True

    @staticmethod
    def check(value: Any) -> Any:
        if type(value) is int or value is None:
            return value
        _refuse("a whole number", value)


class BigWhole(Whole):
    """A whole number of 64 bits."""

    impl = BigInteger
    cache_ok = True


class Number(_Checked):
    """A finite number."""

    impl = Float
    cache_ok = True

    @staticmethod
    def check(value: Any) -> Any:
        if value is None or (isinstance(value, int | float) and isfinite(value)):
            return value
        _refuse("a finite number", value)


class Moment(_Checked):
    """A point in time on the database's clock, in seconds since 1970 and before the year 10000; or between two."""

    impl = Float
    cache_ok = True

    @staticmethod
    def check(value: Any) -> Any:
        if value is None or (isinstance(value, int | float) and abs(value) < YEAR_10000):
            return value
        _refuse("seconds since 1970", value)


class Bytes(_Checked):
    """Bytes."""

    impl = LargeBinary
    cache_ok = True

    @staticmethod
    def check(value: Any) -> Any:
        if type(value) is bytes or value is None:
            return value
        _refuse("bytes", value)
