"""The replay of torch's caching allocator, by what its source does with each size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.runner.tracing.allocator import Allocator, OutOfMemory, least_reserved

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "reserved"),
    [(1, 2 * MIB), (MIB, 2 * MIB), (MIB + 1, 20 * MIB), (10 * MIB - 512, 20 * MIB), (10 * MIB, 10 * MIB),
     (11 * MIB, 12 * MIB), (101 * MIB, 102 * MIB)],
)  # fmt: skip
def test_segments_have_the_sizes_of_the_source(size: int, reserved: int) -> None:
    assert Allocator().replay([(1, size)]) == reserved


def test_small_blocks_share_a_segment_and_round_up_to_512() -> None:
    assert Allocator().replay([(n, 1) for n in range(4096)]) == 2 * MIB
    assert Allocator().replay([(n, 1) for n in range(4097)]) == 4 * MIB


def test_a_free_block_is_used_again_and_the_smallest_that_will_do() -> None:
    events = [(1, 100 * MIB), (2, 50 * MIB), (1, -100 * MIB), (2, -50 * MIB), (3, 50 * MIB), (4, 100 * MIB)]
    assert Allocator().replay(events) == 150 * MIB


def test_neighbours_join_again() -> None:
    halves = [(1, 100 * MIB), (1, -100 * MIB), (2, 50 * MIB), (3, 50 * MIB)]
    assert Allocator().replay([*halves, (2, -50 * MIB), (3, -50 * MIB), (4, 100 * MIB)]) == 100 * MIB
    assert Allocator().replay([*halves, (3, -50 * MIB), (2, -50 * MIB), (4, 100 * MIB)]) == 100 * MIB
    assert Allocator().replay([*halves, (2, -50 * MIB), (4, 100 * MIB)]) == 200 * MIB


def test_what_is_left_of_a_large_block_is_only_cut_off_if_it_is_worth_it() -> None:
    near = [(1, 50 * MIB), (1, -50 * MIB), (2, 49 * MIB), (3, MIB + 512)]
    assert Allocator().replay(near) == 70 * MIB


def test_short_of_memory_it_gives_back_what_nobody_uses() -> None:
    events = [(1, 100 * MIB), (1, -100 * MIB), (2, 120 * MIB)]
    assert Allocator().replay(events) == 220 * MIB
    assert Allocator(limit=130 * MIB).replay(events) == 120 * MIB
    with pytest.raises(OutOfMemory):
        Allocator(limit=119 * MIB).replay(events)
    assert least_reserved(events, 120 * MIB, 220 * MIB) <= 122 * MIB


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Storages that come and go in any order."""
    sizes = draw(st.lists(st.integers(1, 40 * MIB), min_size=1, max_size=40))
    events, alive = [], []
    for number, size in enumerate(sizes):
        events.append((number, size))
        alive.append(number)
        while alive and draw(st.booleans()):
            gone = alive.pop(draw(st.integers(0, len(alive) - 1)))
            events.append((gone, -sizes[gone]))
    return events


@given(lives())
def test_it_reserves_what_is_allocated_at_least_and_frees_all_in_the_end(events: list[tuple[int, int]]) -> None:
    live = peak = 0
    for _, size in events:
        live += size
        peak = max(peak, live)
    reserved = Allocator().replay(events)
    assert reserved >= peak
    assert peak <= least_reserved(events, peak, reserved) <= reserved
    ended = {number for number, size in events if size < 0}
    closed = [*events, *((number, -size) for number, size in events if size > 0 and number not in ended)]
    allocator = Allocator()
    allocator.replay(closed)
    assert sum(size for free in allocator._free.values() for size, _ in free) == allocator.reserved
