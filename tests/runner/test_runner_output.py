"""What the command prints: kept, bounded, and without secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner_kit import Job, eventually

from backends.runner import runner

SECRET = "canary-7f3a9c51e2"


def shown(secrets: list[str], chunks: list[bytes]) -> bytes:
    redactor = runner.Redactor(secrets)
    return b"".join(redactor.feed(chunk) for chunk in chunks) + redactor.flush()


def test_secrets_are_replaced_in_both_logs(job: Job) -> None:
    split = f"printf %s {SECRET[:6]}; sleep 0.1; echo '{SECRET[6:]}'"
    job.run(f'echo "a $TOKEN b"; echo "c $TOKEN" >&2; {split}', secrets={"TOKEN": SECRET}, secret_names=["TOKEN"])
    assert job.log("stdout") == "a *** b\n***\n"
    assert job.log("stderr") == "c ***\n"


def test_secrets_are_nowhere_to_be_found(job: Job) -> None:
    job.write('test -n "$TOKEN" && echo $TOKEN && sleep 600', secret_names=["TOKEN"]).start({"TOKEN": SECRET})
    eventually(lambda: (job.dir / "stdout.log").exists() and job.log(), "output")
    listed = subprocess.run(["ps", "-axww", "-o", "args="], capture_output=True, text=True).stdout
    assert str(job.dir) in listed
    assert SECRET not in listed
    runner.request_stop(str(job.dir), "enough")
    job.ended()
    files = [path for path in job.dir.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


@given(st.data())
def test_a_secret_is_replaced_however_it_is_cut(data: st.DataObject) -> None:
    text = data.draw(st.text("abXY", max_size=30)) + "aXbXa" + data.draw(st.text("abXY", max_size=30))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    chunks = [text[begin:end].encode() for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(["aXbXa"], chunks) == text.replace("aXbXa", "***").encode()


@pytest.mark.parametrize("size", range(1, 12))
def test_the_longest_secret_wins(size: int) -> None:
    text = b"x abc abcdef abcde abcdef y"
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert shown(["abc", "abcdef"], chunks) == b"x *** *** ***de *** y"


def test_other_forms_of_a_secret() -> None:
    assert shown(["token-1\n"], [b"say token-1."]) == b"say ***."
    assert shown(["BEGIN KEY\nabcdefgh1234\nEND"], [b"one line: abcdefgh1234"]) == b"one line: ***"
    assert shown(["", "\n"], [b"nothing secret"]) == b"nothing secret"


def test_output_is_not_held_back_while_it_cannot_be_secret() -> None:
    assert runner.Redactor([SECRET]).feed(b"loss 0.1 ") == b"loss 0.1 "


def test_a_long_log_keeps_its_beginning_and_its_end(job: Job) -> None:
    record = job.run("seq 1 100000", limits={"log_bytes": 10_000})
    text = job.log()
    assert text.startswith("1\n2\n3\n")
    assert text.endswith("\n99999\n100000\n")
    assert "bytes left out here]" in text
    assert len(text) <= 10_000
    assert record["log_truncated"] is True
    assert record["log_bytes"]["stdout"] == sum(len(str(n)) + 1 for n in range(1, 100001))


def test_a_log_just_below_its_cap_is_whole(tmp_path: Path) -> None:
    for size in range(880, 1001):
        path = tmp_path / f"{size}.log"
        log = runner.LogFile(str(path), 1000, [])
        data = bytes(65 + n % 26 for n in range(size))
        for at in range(0, size, 7):
            log.write(data[at : at + 7])
        log.close()
        assert path.stat().st_size <= 1000
        assert log.truncated or path.read_bytes() == data


def test_one_huge_line_takes_neither_disk_nor_memory(job: Job) -> None:
    job.write(
        "head -c 300000000 /dev/zero; echo; echo the end; echo 1 > printed; sleep 600", limits={"log_bytes": 100_000}
    )
    job.start({"TOKEN": SECRET})
    job.made("printed")
    memory = runner.kilobyte_table(f"/proc/{job.running()['supervisor_pid']}/status")
    assert memory["VmHWM"] < 60_000_000
    runner.request_stop(str(job.dir), "enough")
    assert job.ended()["log_bytes"]["stdout"] == 300_000_009
    assert (job.dir / "stdout.log").stat().st_size <= 100_000
    assert job.log().endswith("\nthe end\n")


def test_the_log_can_be_followed(job: Job) -> None:
    job.write("echo one; while [ ! -e go ]; do sleep 0.01; done; echo two").start()
    eventually(lambda: (job.dir / "stdout.log").exists() and job.log() == "one\n", "the first line")
    (job.work / "go").touch()
    job.ended()
    assert job.log() == "one\ntwo\n"
