"""The types of our columns. SQLite keeps any value in any column, so what is read is checked against the column's type.

PostgreSQL keeps to the types itself, and there the database's own conversions stand. What SQL works out of columns has
their types too: sums and differences of numbers of a type must be of it.
"""

from math import inf
from typing import Any, ClassVar, Protocol

from sqlalchemy import BigInteger, Dialect, Float, Integer, LargeBinary, String, Text
from sqlalchemy.types import TypeDecorator

from .foreign import foreign

YEAR_10000 = 253402300800.0  # in seconds since 1970; Python's dates end before it


class _Processor(Protocol):
    def __call__(self, value: Any) -> Any: ...


class _Checked(TypeDecorator[Any]):
    """A type whose values are checked when SQLite hands them out. NULL passes: outer joins have it in any column.

    Attributes:
        rule: what a value must be, in words.
        kinds: the Python types that it comes in.
        below: what the size of a number must be less than; None for what is no number.
    """

    impl = String
    cache_ok = True
    rule: ClassVar[str]
    kinds: ClassVar[tuple[type, ...]]
    below: ClassVar[float | None] = None

    def result_processor(self, dialect: Dialect, coltype: object) -> _Processor | None:
        """Of SQLAlchemy: what each value read from the database is sent through.

        It raises `StorageError` for a value of another type.
        """
        return self._check if dialect.name == "sqlite" else super().result_processor(dialect, coltype)

    def _check(self, value: Any) -> Any:
        if value is None or (type(value) in self.kinds and (self.below is None or abs(value) < self.below)):
            return value
        raise foreign("the database", f"in place of {self.rule} there is {value!r:.80}")


class CheckedString(_Checked):
    """Text; with a length, of at most so many characters."""

    impl, cache_ok = String, True
    rule, kinds = "text", (str,)


class CheckedText(CheckedString):
    """Text of any length."""

    impl, cache_ok = Text, True


class CheckedInteger(_Checked):
    """A whole number, on PostgreSQL of 32 bits."""

    impl, cache_ok = Integer, True
    rule, kinds = "a whole number", (int,)


class BigWhole(CheckedInteger):
    """A whole number of 64 bits."""

    impl, cache_ok = BigInteger, True


class Number(_Checked):
    """A finite number."""

    impl, cache_ok = Float, True
    rule, kinds, below = "a finite number", (int, float), inf


class Timestamp(Number):
    """A point in time on the database's clock, in seconds since 1970 and before the year 10000; or between two."""

    impl, cache_ok = Float, True
    rule, below = "seconds since 1970", YEAR_10000


class Bytes(_Checked):
    """Bytes."""

    impl, cache_ok = LargeBinary, True
    rule, kinds = "bytes", (bytes,)
