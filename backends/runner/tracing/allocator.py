"""torch's caching allocator for CUDA, replayed: what it reserves while storages are taken and given back.

After c10/cuda/CUDACachingAllocator.cpp, with its default settings. Standard library only.
"""

from bisect import bisect_left, insort
from typing import Dict, List, Optional, Tuple

Event = Tuple[int, int]
"""A storage by its number, and its size in bytes; negative when it is given back."""

GRANULE = 512
SMALL_BLOCK = 1 << 20
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
OWN_SEGMENT = 10 << 20
"""Blocks up to 1 MiB come from segments of 2 MiB, those below 10 MiB from segments of 20; larger ones get a segment of
their own, rounded up to 2 MiB."""


def rounded(size: int, step: int = GRANULE) -> int:
    """``size`` rounded up to a multiple of ``step``."""
    return -(-size // step) * step


class OutOfMemory(Exception):
    """More than the limit would have to be reserved."""


class _Block:
    """A piece of a segment, between its neighbours."""

    __slots__ = ("address", "after", "before", "free", "size", "small")

    def __init__(self, address: int, size: int, small: bool) -> None:
        self.address, self.size, self.small, self.free = address, size, small, False
        self.before: Optional[_Block] = None
        self.after: Optional[_Block] = None


class Allocator:
    """The allocator of one device that has ``limit`` bytes for it; None for plenty."""

    def __init__(self, limit: Optional[int] = None) -> None:
        self.reserved = self.most_reserved = 0
        self._limit = limit
        self._end = 0
        self._used: Dict[int, _Block] = {}
        self._blocks: Dict[int, _Block] = {}
        self._free: Dict[bool, List[Tuple[int, int]]] = {True: [], False: []}
        """(size, address) of free blocks, smallest first: of small ones, and of large ones."""

    def replay(self, events: List[Event]) -> int:
        """The most that was ever reserved. Raises OutOfMemory."""
        for number, size in events:
            if size > 0:
                self.take(number, size)
            elif size < 0:
                self.give(number)
        return self.most_reserved

    def take(self, number: int, size: int) -> None:
        """Allocate for the storage ``number``: the smallest free block that will do. Raises OutOfMemory."""
        size = rounded(size)
        small = size <= SMALL_BLOCK
        free = self._free[small]
        place = bisect_left(free, (size, 0))
        block = self._blocks[free.pop(place)[1]] if place < len(free) else self._segment(size, small)
        block.free = False
        if block.size - size >= GRANULE if small else block.size - size > SMALL_BLOCK:
            self._split(block, size)
        self._used[number] = block

    def give(self, number: int) -> None:
        """Free it, and join it with free neighbours."""
        block = self._used.pop(number)
        if block.after and block.after.free:
            self._withdraw(block.after)
            self._swallow(block, block.after)
        if block.before and block.before.free:
            self._withdraw(block.before)
            block = block.before
            assert block.after
            self._swallow(block, block.after)
        self._offer(block)

    def _segment(self, size: int, small: bool) -> _Block:
        """A new piece of the device's memory; cached ones that nobody uses are given back before it is refused."""
        whole = SMALL_SEGMENT if small else LARGE_SEGMENT if size < OWN_SEGMENT else rounded(size, SMALL_SEGMENT)
        if self._limit is not None and self.reserved + whole > self._limit:
            self._release()
            if self.reserved + whole > self._limit:
                raise OutOfMemory
        block = self._blocks[self._end] = _Block(self._end, whole, small)
        self._end += whole
        self.reserved += whole
        self.most_reserved = max(self.most_reserved, self.reserved)
        return block

    def _release(self) -> None:
        for small, free in self._free.items():
            blocks = [self._blocks[address] for _, address in free]
            self._free[small] = [(block.size, block.address) for block in blocks if block.before or block.after]
            self.reserved -= sum(block.size for block in blocks if not (block.before or block.after))

    def _split(self, block: _Block, size: int) -> None:
        rest = _Block(block.address + size, block.size - size, block.small)
        rest.before, rest.after = block, block.after
        if block.after:
            block.after.before = rest
        block.after, block.size = rest, size
        self._blocks[rest.address] = rest
        self._offer(rest)

    def _swallow(self, block: _Block, after: _Block) -> None:
        """Make ``block`` and its neighbour one."""
        del self._blocks[after.address]
        block.size += after.size
        block.after = after.after
        if after.after:
            after.after.before = block

    def _offer(self, block: _Block) -> None:
        block.free = True
        insort(self._free[block.small], (block.size, block.address))

    def _withdraw(self, block: _Block) -> None:
        free = self._free[block.small]
        free.pop(bisect_left(free, (block.size, block.address)))


def least_reserved(events: List[Event], allocated: int, reserved: int) -> int:
    """What the device must have for the allocator, to half a percent: if short, it gives back what it caches."""
    low, high = allocated, reserved
    while high - low > max(allocated // 200, SMALL_SEGMENT):
        middle = (low + high) // 2
        try:
            Allocator(middle).replay(events)
        except OutOfMemory:
            low = middle
        else:
            high = middle
    return high
