"""Ollama over HTTP: a server of the job's own, started, looked after and started again; and what it is asked.

Only the standard library. https://docs.ollama.com/api describes the calls.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

READY_SECONDS = 120
REPLY_SECONDS = 900
"""A cold load from a slow disk, and then a long text on a CPU."""
BUSY_SECONDS = (0.5, 1, 2, 4, 8, 16, 30, 30, 30)
"""Waits while the queue is full (503)."""
RESTARTS = 3


class OllamaError(Exception):
    """What is wrong, why, and what to do, in words."""


class ServerDied(Exception):
    """No answer, or the process behind it is gone."""


class Server:
    """``ollama serve`` on a port of its own, with its models in ``cache``. Use it with ``with``.

    ``context`` is in tokens; it is always set, since Ollama would choose it by the VRAM that it finds.
    """

    def __init__(self, cache: Path, context: int, log: Path) -> None:
        self._program = find_program(cache)
        self._env = {
            **os.environ,
            "OLLAMA_MODELS": str(cache / "models"),
            "OLLAMA_CONTEXT_LENGTH": str(context),
            "OLLAMA_NUM_PARALLEL": "1",
            "OLLAMA_KEEP_ALIVE": "-1",
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self.restarts = 0

    def __enter__(self) -> Server:
        try:
            self._start()
        except ServerDied as error:
            self.stop()
            raise OllamaError(f"{self._program} serve does not begin: {error}\n{self._last_words()}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def restart(self, why: str) -> None:
        """End what is left of it and begin anew. Raises OllamaError after ``RESTARTS`` times."""
        if self.restarts == RESTARTS:
            raise OllamaError(f"Ollama died {RESTARTS + 1} times, at last: {why}\n{self._last_words()}")
        self.restarts += 1
        print(f"Ollama is started again ({self.restarts} of {RESTARTS}): {why}", flush=True)
        self.stop()
        try:
            self._start()
        except ServerDied as error:
            self.restart(str(error))

    def stop(self) -> None:
        """End it; a second call does nothing."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to one call; waits while the queue is full. Raises ServerDied, OllamaError."""
        answer: dict[str, Any] = {}
        for line in self.stream(path, {**body, "stream": False} if body is not None else None):
            answer = line
        return answer

    def stream(self, path: str, body: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The lines of an answer as they come. Raises ServerDied, OllamaError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with self._opened(request) as reply:
                for line in reply:
                    yield _checked(json.loads(line))
        except (OSError, HTTPException, ValueError) as error:
            raise ServerDied(f"no whole answer to {path}: {error}") from error

    def _opened(self, request: urllib.request.Request) -> Any:
        for wait in (*BUSY_SECONDS, None):
            try:
                return urllib.request.urlopen(request, timeout=REPLY_SECONDS)
            except urllib.error.HTTPError as error:
                said = _said(error)
                if error.code == 503 and wait is not None:
                    print(f"Ollama's queue is full; asked again in {wait:g} s", flush=True)
                    time.sleep(wait)
                elif error.code >= 500 and error.code != 503:
                    raise ServerDied(f"it answered {error.code}: {said}") from error
                else:
                    raise OllamaError(f"Ollama refuses {request.selector} with {error.code}: {said}") from error
        raise AssertionError("the last try returns or raises")

    def _start(self) -> None:
        """Raises ServerDied unless it answers in time."""
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}"
        with self._log.open("ab") as log:
            env = {**self._env, "OLLAMA_HOST": f"127.0.0.1:{port}"}
            self._process = subprocess.Popen([self._program, "serve"], env=env, stdout=log, stderr=log)
        end = time.monotonic() + READY_SECONDS
        while not self._healthy():
            if (code := self._process.poll()) is not None:
                raise ServerDied(f"it ended with {code} before it answered")
            if time.monotonic() > end:
                raise ServerDied(f"it did not answer within {READY_SECONDS} s")
            time.sleep(0.1)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self._url + "/api/version", timeout=5) as reply:
                return reply.status == 200
        except (OSError, HTTPException):
            return False

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(["its log ends:", *(f"    {line}" for line in lines[-8:])])


def find_program(cache: Path) -> str:
    """``ollama`` on PATH, or what install_ollama.sh put into ``cache``. Raises OllamaError."""
    own = sorted(cache.glob("ollama-*/bin/ollama"))
    program = shutil.which("ollama") or (str(own[-1].absolute()) if own else None)
    if program is None:
        raise OllamaError(f"there is no ollama on PATH, nor in {cache}: run `sh install_ollama.sh {cache}`")
    return program


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """A line of an answer; an error may come within a stream that began well."""
    if "error" in line:
        raise OllamaError(f"Ollama says: {line['error']}")
    return line


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return error.reason


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
