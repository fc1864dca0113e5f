"""Inputs fetched by the real program from a real HTTP server that cuts, refuses and lies."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "backends" / "runner" / "inputs.py"
CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Counts requests. ``/cut`` breaks the first connection, ``/busy`` says 503 once, ``/unsized`` hides its size."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        first = all(path != self.path for path, _ in self.server.seen)
        self.server.seen.append((self.path, asked))
        if self.path == "/missing" or (self.path == "/busy" and first):
            self.send_error(404 if self.path == "/missing" else 503)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.path == "/cut" and first
        self.wfile.write(body[: len(body) // 3] if cut else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(work: Path, entry: dict, cache: Path | None = None) -> subprocess.CompletedProcess:
    work.mkdir(exist_ok=True)
    listing = work.parent / "inputs.json"
    listing.write_text(json.dumps({"cache": str(cache) if cache else None, "inputs": [entry]}))
    return subprocess.run([sys.executable, PROGRAM, listing, work], capture_output=True, text=True)


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def entry(
    *sources: str, dest: str = "models/file.bin", sha256: str | None = DIGEST, max_size: int | None = None
) -> dict:
    return {"sources": list(sources), "dest": dest, "sha256": sha256, "max_size": max_size}


def test_a_download_is_checked_and_put_in_its_place(tmp_path, server):
    done = fetch(tmp_path / "work", entry(url(server, "/file")))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work/models/file.bin").read_bytes() == CONTENT
    assert "100 %" in done.stdout


def test_a_folder_as_dest_keeps_the_name(tmp_path, server):
    assert fetch(tmp_path / "work", entry(url(server, "/weights.bin?x=1"), dest="models/")).returncode == 0
    assert (tmp_path / "work/models/weights.bin").read_bytes() == CONTENT


def test_a_cut_connection_is_resumed_where_it_broke(tmp_path, server):
    done = fetch(tmp_path / "work", entry(url(server, "/cut")))
    assert done.returncode == 0, done.stderr
    assert server.seen == [("/cut", None), ("/cut", f"bytes={len(CONTENT) // 3}-")]


def test_a_busy_server_is_asked_again(tmp_path, server):
    assert fetch(tmp_path / "work", entry(url(server, "/busy"))).returncode == 0


def test_an_alternative_is_taken_when_a_source_fails(tmp_path, server):
    assert fetch(tmp_path / "work", entry(url(server, "/missing"), url(server, "/file"))).returncode == 0


@pytest.mark.parametrize("path", ["/file", "/unsized"])
def test_what_is_larger_than_allowed_is_refused(tmp_path, server, path):
    done = fetch(tmp_path / "work", entry(url(server, path), sha256=None, max_size=1000))
    assert done.returncode == 1
    assert "max_size" in done.stderr
    assert not (tmp_path / "work/models/file.bin").exists()


def test_wrong_content_is_refused_and_removed(tmp_path, server):
    done = fetch(tmp_path / "work", entry(url(server, "/file"), sha256="0" * 64))
    assert done.returncode == 1
    assert "SHA-256" in done.stderr
    assert not list((tmp_path / "work/models").iterdir())


def test_a_missing_file_says_what_the_server_said(tmp_path, server):
    done = fetch(tmp_path / "work", entry(url(server, "/missing")))
    assert (done.returncode, "404" in done.stderr) == (1, True)


def test_the_cache_saves_the_second_download(tmp_path, server):
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        assert fetch(tmp_path / run / "work", entry(url(server, "/file")), tmp_path / "cache").returncode == 0
    assert len(server.seen) == 1
    assert (tmp_path / "two/work/models/file.bin").read_bytes() == CONTENT


def test_a_file_of_the_job_can_be_a_source(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/data.bin").write_bytes(CONTENT)
    assert fetch(tmp_path / "work", entry("data.bin")).returncode == 0


def test_nothing_is_written_outside_of_the_job(tmp_path):
    done = fetch(tmp_path / "work", entry("data.bin", dest="../../out.bin"))
    assert (done.returncode, "outside" in done.stderr) == (1, True)
