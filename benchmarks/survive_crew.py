"""Worker processes for `survive.py`: started, killed, started again as a batch system would, and listened to."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from survive_databases import Database
from survive_study import PROGRAM, STUDY

POLL_SECONDS = 0.05
AGAIN = 75  # the exit code after which the same command goes on
AGAIN_SECONDS = 1.0
AT_ONCE = 3  # processes that may be starting at a time: each takes some seconds of a core
COMMAND = [*PROGRAM, "worker", "--study", STUDY, "--log-format", "json"]
WORDS_OF_LOCKS = ("locked", "deadlock", "could not serialize", "QueuePool", "lock timeout")


class Process(Protocol):
    """What this needs of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int | None: ...
    def kill(self) -> None: ...
    def send_signal(self, number: int, /) -> None: ...


def spawn(command: list[str], folder: Path, variables: Mapping[str, str], log: Path) -> Process:
    """Starts a command in a folder, with its errors in a file, apart from this process's signals."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )


@dataclass
class Member:
    """One worker process, from its start on.

    Attributes:
        slot: its place in the crew, whose variables it has.
        process: what runs.
        log: the file that it writes its events to.
        killed: whether this benchmark killed it.
    """

    slot: int
    process: Process
    log: Path
    killed: bool = False

    def events(self) -> Iterator[dict[str, Any]]:
        """What it said so far; a line that was cut off is left out, and words of others are events of their own."""
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                yield {"event": "stray", "text": line}

    @property
    def is_at_work(self) -> bool:
        """Whether it has begun to sample."""
        return self.process.poll() is None and any(each["event"] == "sampling" for each in self.events())

    @property
    def in_vain(self) -> dict[tuple[str, int], int]:
        """Images that it sampled, or was about to, without saying that they were committed, by evaluation and first."""
        begun = dict[tuple[str, int], int]()
        for each in self.events():
            if each["event"] == "sampling":
                begun[each["evaluation"], each["first"]] = each["images"]
            elif each["event"] == "committed":
                begun.pop((each["evaluation"], each["first"]), None)
        return begun


@dataclass
class Crew:
    """The workers of one study on this machine, from `with` to the end of all of them.

    Attributes:
        database: where the study is.
        size: how many at a time.
        variables: of each slot, beside those of the database.
        command: that starts one.
        start: as `spawn`.
        restarts: whether one that was lost, or that ended with 75, is started again.
        members: all that there ever were.
    """

    database: Database
    size: int
    variables: Mapping[int, dict[str, str]] = field(default_factory=dict)
    command: list[str] = field(default_factory=lambda: list(COMMAND))
    start: Callable[[list[str], Path, Mapping[str, str], Path], Process] = spawn
    restarts: bool = True
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots: dict[int, Member | None] = dict.fromkeys(range(self.size))
        self._again = dict.fromkeys(range(self.size), 0.0)
        self._over: set[int] = set()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody stays behind, whatever happened."""
        for each in self.alive:
            each.process.kill()
            each.process.wait()

    @property
    def alive(self) -> list[Member]:
        """Those whose processes run."""
        return [each for each in self._slots.values() if each is not None and each.process.poll() is None]

    @property
    def is_over(self) -> bool:
        """Whether none runs, or will."""
        return len(self._over) == self.size

    @property
    def codes(self) -> dict[int, int]:
        """How often each exit code was seen of those that were not killed here."""
        ended = [each.process.poll() for each in self.members if not each.killed]
        return {code: ended.count(code) for code in sorted({code for code in ended if code is not None})}

    def until(self, condition: Callable[[], bool], limit: float) -> bool:
        """Tends the crew until a condition holds; False if all ended before.

        Raises:
            TimeoutError: neither happened within `limit` seconds.
            RuntimeError: one ended in a way that no restart mends.
        """
        end = time.monotonic() + limit
        while not condition():
            if self.is_over:
                return condition()
            if time.monotonic() > end:
                raise TimeoutError(f"after {limit:.0f} s: {self._last_words()}")
            self.tend()
            time.sleep(POLL_SECONDS)
        return True

    def rest(self, seconds: float) -> None:
        """Tends the crew for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 60)

    def finish(self, limit: float) -> None:
        """Tends the crew to its end. Raises as `until` does."""
        self.until(lambda: self.is_over, limit)

    def tend(self) -> None:
        """Starts whoever is due."""
        for slot in set(self._slots) - self._over:
            member = self._slots[slot]
            if member is not None and member.process.poll() is None:
                continue
            if member is not None:
                self._slots[slot] = None
                self._judge(member, member.process.returncode or 0)
            if slot not in self._over and time.monotonic() >= self._again[slot] and self._starting() < AT_ONCE:
                self._slots[slot] = self._start(slot)

    def kill(self, victim: Member) -> None:
        """Ends a process as the kernel does when memory runs out."""
        victim.killed = True
        victim.process.kill()
        victim.process.wait()

    def drain(self) -> None:
        """Asks all to end, and starts none again."""
        self.restarts = False
        for each in self.alive:
            each.process.send_signal(signal.SIGTERM)

    def victim(self, chance: random.Random) -> Member | None:
        """Anybody, more often one that samples."""
        at_work = [each for each in self.alive if each.is_at_work]
        among = at_work if at_work and chance.random() < 0.8 else self.alive
        return chance.choice(among) if among else None

    def _starting(self) -> int:
        """How many have said nothing yet."""
        return sum(1 for each in self.alive if each.log.stat().st_size == 0)

    def _start(self, slot: int) -> Member:
        number = len(list(self.database.folder.glob("worker-*.log")))  # those of other crews among them
        log = self.database.folder / f"worker-{number:03d}.log"
        log.touch()
        variables = {**self.database.environment, **self.variables.get(slot, {})}
        process = self.start(self.command, self.database.folder, variables, log)
        self.members.append(Member(slot, process, log))
        return self.members[-1]

    def _judge(self, member: Member, code: int) -> None:
        """What an exit code means to whoever starts workers."""
        if code == 0 or not self.restarts:
            self._over.add(member.slot)
        elif code == AGAIN:
            self._again[member.slot] = time.monotonic() + AGAIN_SECONDS
        elif not member.killed:
            raise RuntimeError(f"a worker ended with {code}: {member.log.read_text()[-2000:]}")

    def _last_words(self) -> str:
        return " | ".join(each.log.read_text()[-300:] for each in self.alive[:4])


def said(members: list[Member], words: tuple[str, ...]) -> list[str]:
    """What workers told their users that has one of these words in it; any case."""
    texts = [str(event.get("text", "")) for member in members for event in member.events()]
    return [text for text in texts if any(word.lower() in text.lower() for word in words)]
