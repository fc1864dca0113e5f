"""A stand-in for the program ``ollama``: `serve` speaks its HTTP API over real sockets, with the faults that it has.

A folder, named by ``OLLAMA_STANDIN``, holds ``faults.json`` and what the stand-in leaves: ``starts.jsonl``, the
settings of every start, ``calls.jsonl``, every call, and counters that outlive a crash. Faults:

``load_seconds``    a cold load takes so long
``busy``            so many generations find the queue full (503)
``vram_share``      the part of a model that lies in VRAM
``crash_at``        the server dies within these generations
``runner_dies_at``  these generations are answered 500
``dead_starts``     so many starts end before they answer
``mute_at``         these generations write nothing
``vectors``         the embedding of the text with a seed
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["OLLAMA_STANDIN"])
FAULTS = json.loads((FOLDER / "faults.json").read_text())
SIZE = 5_000_000_000
LOCK = threading.Lock()
LOADED: set[str] = set()


def counted(name: str) -> int:
    """How many times it was asked for, this time included; kept in a file."""
    with LOCK:
        path = FOLDER / f"{name}.count"
        number = 1 + (int(path.read_text()) if path.exists() else 0)
        path.write_text(str(number))
        return number


def noted(name: str, value: dict[str, Any]) -> None:
    with LOCK, (FOLDER / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(value) + "\n")


def full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def pulled() -> Path:
    folder = Path(os.environ["OLLAMA_MODELS"]) / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        noted("calls", {"path": self.path})
        if self.path == "/api/version":
            self.answer({"version": "0.13.5"})
        elif self.path == "/api/tags":
            self.answer({"models": [{"name": path.name, "size": SIZE} for path in pulled().iterdir()]})
        elif self.path == "/api/ps":
            vram = int(SIZE * FAULTS.get("vram_share", 1.0))
            self.answer({"models": [{"name": name, "size": SIZE, "size_vram": vram} for name in sorted(LOADED)]})
        else:
            self.answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        noted("calls", {"path": self.path, **{key: body[key] for key in ("model", "prompt", "options") if key in body}})
        if self.path == "/api/pull":
            self.pull(body["model"])
        elif not (pulled() / full(body["model"])).exists():
            self.answer({"error": f"model '{body['model']}' not found"}, 404)
        elif self.path == "/api/embed":
            self.answer({"model": body["model"], "embeddings": [embedding(text) for text in body["input"]]})
        elif self.path == "/api/generate":
            self.generate(body)

    def pull(self, model: str) -> None:
        if model == "no-such-model":
            self.lines([{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}])
            return
        (pulled() / full(model)).touch()
        halves = [{"status": "pulling", "total": SIZE, "completed": done} for done in (SIZE // 2, SIZE)]
        self.lines([{"status": "pulling manifest"}, *halves, {"status": "success"}])

    def generate(self, body: dict[str, Any]) -> None:
        load = self.load(full(body["model"]))
        if not body.get("prompt"):
            self.answer({"response": "", "done": True, "done_reason": "load"})
            return
        if counted("asked") <= FAULTS.get("busy", 0):
            self.answer({"error": "server busy, please try again.  maximum pending requests exceeded"}, 503)
            return
        number = counted("generations")
        if number in FAULTS.get("crash_at", []):
            os._exit(2)
        if number in FAULTS.get("runner_dies_at", []):
            LOADED.clear()
            self.answer({"error": "llama runner process has terminated: signal: killed"}, 500)
            return
        text = "" if number in FAULTS.get("mute_at", []) else written(body)
        self.answer({"response": text, "done": True, "eval_count": len(text.split()), "load_duration": int(load * 1e9)})

    def load(self, model: str) -> float:
        with LOCK:
            if model in LOADED:
                return 0.0
            LOADED.add(model)
        began = time.monotonic()
        time.sleep(FAULTS.get("load_seconds", 0))
        return time.monotonic() - began

    def answer(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def lines(self, values: list[dict[str, Any]]) -> None:
        data = "".join(json.dumps(value) + "\n" for value in values).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


def written(body: dict[str, Any]) -> str:
    """A text that its request determines, and that names its seed."""
    options = body["options"]
    said = json.dumps([body["model"], body["prompt"], options], sort_keys=True)
    return f"seed {options['seed']}: {body['prompt'][:20]} {hashlib.sha256(said.encode()).hexdigest()[:12]}"


def embedding(text: str) -> list[float]:
    found = re.match(r"seed (\d+):", text)
    if found and (vector := FAULTS.get("vectors", {}).get(found[1])):
        return list(vector)
    return [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()]


def main() -> None:
    assert sys.argv[1:] == ["serve"], sys.argv
    noted("starts", {name: value for name, value in os.environ.items() if name.startswith("OLLAMA_")})
    if counted("starts") <= FAULTS.get("dead_starts", 0):
        sys.exit("Error: no space left on device")
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    print("Listening", flush=True)
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
