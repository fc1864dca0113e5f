"""``gpujob backends setup``: a key is asked for, tried by a free call, and only then kept."""

from __future__ import annotations

import sys
from getpass import getpass

from backends.base import AuthError, Credential
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
    wanted, kept = keyed.credential, Credentials(home)
    key = _read_key(wanted, from_stdin=key_stdin)
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
        say(f"{wanted.title}. Made at {wanted.made_at}.")
        say(wrapped(f"Give it no more rights than it needs: {wanted.rights}", 0))
    key = sys.stdin.readline() if from_stdin else getpass("Key (not shown): ")
    if not (key := key.strip()) or any(sign.isspace() or not sign.isprintable() for sign in key):
        raise AuthError("that is no key; nothing was changed", advice=f"It is one word. Made at {wanted.made_at}.")
    return key
