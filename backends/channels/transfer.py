"""The near end of file transfer: the protocol of ``runner/courier.py`` with a machine that is not trusted."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from backends.base import Progress, Rejected, Transient
from backends.channels.lanes import lanes_for, more_lanes
from backends.channels.listing import read_listing
from backends.channels.ssh_connection import Conversation, Interrupted, printable
from backends.channels.trees import Caps, Meter, explained, link_text, not_for_transfer, what_went_wrong
from backends.failpoints import failpoint
from backends.runner.courier import MAGIC
from backends.runner.parcels import Corrupt, Item, Receiver, send_file, send_listing, walk
from backends.runner.wire import BLOCK, LINE_BYTES, Cut, Incoming, Outgoing, WireError

NOISE_BYTES = 1 << 16
"""What a login shell may print before the courier speaks."""
WANTS_BYTES = 1 << 26


class Courier:
    """A courier at work on the machine, greeted. Raises Silent where none spoke."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.incoming = Incoming(conversation.read)
        self.out = Outgoing(conversation.write)
        with plain_errors():
            try:
                self.incoming.skip_to(MAGIC, NOISE_BYTES)
            except Cut as cut:
                raise Silent(
                    conversation.code(), f"{cut}\n{conversation.complaints().decode(errors='replace')}"
                ) from cut

    def answer(self, doing: str, limit: int = WANTS_BYTES) -> dict[str, Any]:
        """The next line, an object. Raises what the courier says went wrong there."""
        said = self.said(limit)
        if "error" in said:
            _raise_as_said(doing, said)
        return said

    def said(self, limit: int) -> dict[str, Any]:
        """The next line, an object."""
        said = self.incoming.line(limit)
        if not isinstance(said, dict):
            raise WireError("an answer is no object")
        return said


class Silent(Exception):
    """The courier did not speak: the exit code of what ran instead, and its words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


def push(courier: Courier, tree: Path, dest: str, progress: Progress) -> None:
    """Make ``dest`` on the machine hold ``tree``. See Machine."""
    doing = f"copy {tree} to {dest}"
    with plain_errors(), explained(doing):
        listing = _listed(tree)
        total = sum(item.size for item in listing)
        meter = Meter(total, progress)
        with _said_why(courier, doing):
            send_listing(listing, courier.out, lanes := lanes_for(courier.conversation.round_trip))
        said = courier.answer(doing)
        wants = [] if said.get("done") is True else _checked_wants(said.get("wants"), listing)
        meter.done(total - sum(listing[index].size - offset for index, offset in wants))
        with more_lanes(courier.conversation, courier.out, said.get("lanes") if wants else None, lanes):
            with _said_why(courier, doing):
                for index, offset in wants:
                    failpoint("push:file")
                    item = listing[index]
                    send_file(str(tree / item.name), item, offset, courier.out, meter.done, _raise)
                courier.out.flush()
            if wants:
                courier.answer(doing)


def pull(courier: Courier, path: str, dest: Path, caps: Caps, progress: Progress) -> bool:
    """Make ``dest`` what ``path`` on the machine is; False where that is absent. See Machine."""
    doing = f"fetch {path} to {dest}"
    with plain_errors(), explained(doing):
        header = courier.answer(doing)
        if header.get("absent"):
            return False
        listing = read_listing(header, courier.incoming, path, caps)
        receiver = Receiver(str(dest), listing, modes=False, landing=lambda: failpoint("pull:file"))
        wants = receiver.wants()
        total = sum(item.size for item in listing)
        meter = Meter(total, progress)
        meter.done(total - sum(listing[index].size - offset for index, offset in wants))
        changed: list[str] = []
        if wants:
            courier.out.line({"wants": wants})
            courier.out.flush()
            changed = receiver.take(wants, courier.incoming, meter.done)
        receiver.clear()
    if changed:
        raise Transient(
            f"{printable(changed[0])} in {path} changed while it was copied",
            advice="write it under another name, then rename it",
        )
    return True


def read(courier: Courier, path: str, limit: int) -> bytes:
    """The bytes that a courier was asked for, at most ``limit``."""
    with plain_errors():
        said = courier.said(LINE_BYTES)
        if "error" in said and said.get("refused") is not True:  # it may be there later, as a file
            raise Transient(f"{path} cannot be read: {printable(str(said['error']))}")
        if "error" in said:
            _raise_as_said(f"read {path}", said)
        count = said.get("bytes")
        if type(count) is not int or not 0 <= count <= limit:
            raise WireError("more than was asked for")
        return courier.incoming.take(count) if count else b""


def _listed(tree: Path) -> list[Item]:
    """What ``tree`` holds. Raises Rejected for what does not travel: pipes, devices, links that lead out."""
    listing = []
    for item in walk(str(tree)):
        if item.kind == "?":
            raise not_for_transfer(tree / item.name)
        listing.append(item._replace(aim=link_text(tree, tree / item.name)) if item.kind == "l" else item)
    return listing


def _checked_wants(wants: Any, listing: list[Item]) -> list[tuple[int, int]]:
    """Which files the machine asks for, each once and in order, and from where. Raises WireError."""
    if not isinstance(wants, list):
        raise WireError("no list of what is wanted")
    last, checked = -1, []
    for want in wants:
        match want:
            case [int(index), int(offset)] if last < index < len(listing) and 0 <= offset <= listing[index].size:
                checked.append((index, offset))
                last = index
            case _:
                raise WireError("something is wanted that was not offered")
    if any(listing[index].kind != "f" or (offset and listing[index].size <= BLOCK) for index, offset in checked):
        raise WireError("something is wanted that is no file")
    return checked


def _raise(error: OSError) -> NoReturn:
    raise error


def _raise_as_said(doing: str, said: dict[str, Any]) -> NoReturn:
    """The machine's own error, as ours."""
    words = printable(str(said["error"]))
    if said.get("refused") is True:
        raise Rejected(words, advice="use a path inside the job directory")
    number = getattr(errno, str(said.get("errno")), 0)
    raise what_went_wrong(f"{doing} on the machine", words, number if isinstance(number, int) else 0)


@contextmanager
def _said_why(courier: Courier, doing: str) -> Iterator[None]:
    """While we send, the machine may give up: then it has said why, which tells more than a closed connection."""
    try:
        yield
    except Interrupted:
        with suppress(Cut, WireError, Interrupted):
            courier.answer(doing)
        raise


@contextmanager
def plain_errors() -> Iterator[None]:
    """What can happen on the wire, as errors that say what their caller does next."""
    try:
        yield
    except Cut as error:
        raise Transient("the connection was cut before the transfer was complete; it will go on from there") from error
    except Corrupt as error:
        raise Transient(f"{printable(str(error))}; it was removed and will be sent again") from error
    except WireError as error:
        raise Transient(f"the machine answers with something else than it should: {printable(str(error))}") from error
