"""``gpujob backends setup``: a key is asked for, tried by a free call, and only then kept."""

from __future__ import annotations

import sys
from getpass import getpass
from pathlib import Path

from backends.base import AuthError, Credential, Keyed
from orchestrator.cli.screen import complain, good, say, warned, wrapped
from orchestrator.config import Config
from orchestrator.credentials import Credentials
from orchestrator.home import Home
from orchestrator.lifecycle.registry import Backends


def set_up(home: Home, name: str, *, key_stdin: bool, in_file: bool) -> int:
    """Set ``name`` up; exit code 2 for a backend that needs no key. Raises AuthError for a key that is refused."""
    keyed = Backends(home, Config(home.config)).get(name).keyed
    if keyed is None:
        complain(f"The backend {name!r} needs no key. `gpujob backends` says how it stands.")
        return 2
    return _try_and_keep(home, name, keyed, _read_key(keyed.credential, from_stdin=key_stdin), in_file=in_file)


def set_up_by_browser(home: Home, name: str, client: Path, *, browser: bool, in_file: bool) -> int:
    """Set ``name`` up by signing in, in a browser; exit code 2 for a backend that has no such way.

    Raises AuthError where the user refuses, Rejected for a file that is no OAuth client.
    """
    backend = Backends(home, Config(home.config)).get(name)
    if backend.signed_in is None or backend.keyed is None:
        complain(f"The backend {name!r} is not signed in to. `gpujob backends` says how it stands.")
        return 2
    key = backend.signed_in.sign_in(client, browser=browser)
    return _try_and_keep(home, name, backend.keyed, key, in_file=in_file)


def _try_and_keep(home: Home, name: str, keyed: Keyed, key: str, *, in_file: bool) -> int:
    wanted, kept = keyed.credential, Credentials(home)
    lines = keyed.try_key(key)
    where = kept.keep(wanted.name, key, in_file=in_file)
    say(f"{good('✓')} {name}: {lines[0]}")
    for line in lines[1:]:
        say(f"    {line}")
    say(f"    kept in {where}")
    if kept.find(wanted.name) != key:
        say(f"{warned('!')} {wanted.name} is set in this terminal to another key, which goes before the kept one.")
    return 0


def _read_key(wanted: Credential, *, from_stdin: bool) -> str:
    """The key, never shown. Raises AuthError where none is given."""
    if not from_stdin:
        if not sys.stdin.isatty():
            raise AuthError("A key is typed in a terminal, and this is none", advice="Give it with --key-stdin.")
        say(f"{wanted.title}. Made at {wanted.made_at}.")
        say(wrapped(f"Give it no more rights than it needs: {wanted.rights}", 0))
    key = sys.stdin.readline() if from_stdin else getpass("Key (not shown): ")
    key = key.strip()
    if not key or not key.isprintable() or (any(map(str.isspace, key)) and not key.startswith("{")):
        raise AuthError("that is no key; nothing was changed", advice=f"It is one word. Made at {wanted.made_at}.")
    return key
