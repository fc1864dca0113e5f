"""A person opens a notebook file and presses Run all: a real kernel executes it, and its output is printed."""

import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


class Shown(NotebookClient):
    def process_message(self, msg, cell, cell_index):  # type: ignore[no-untyped-def]
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().process_message(msg, cell, cell_index)


try:
    Shown(nbformat.read(sys.argv[1], as_version=4), timeout=None, kernel_name="python3").execute()
except CellExecutionError as error:
    print(f"{error.ename}: {error.evalue}")
    sys.exit(1)
