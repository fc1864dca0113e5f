"""What the commands about Colab do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.channels.drive_replies import SETUP_COMMAND, TOKEN_NAME
from backends.colab.backend import ColabBackend
from backends.colab.settings import ACCEPT_COMMAND, NAME, TERMS, TERMS_AS_OF, Settings
from backends.units import format_duration
from orchestrator.cli.screen import complain, good, say, say_json, wrapped
from orchestrator.config import Config
from orchestrator.credentials import Credentials
from orchestrator.home import Home

GPUS = ("T4", "L4", "A100", "G4", "H100", "none")
"""As Colab's own menu names them; another name would silently become something else."""


def write_notebook(file: Path, gpu: str, *, keep_models: bool) -> int:
    """Write the notebook file and say how it is used; exit code 2 where that is impossible."""
    from backends.colab.notebook import notebook

    if gpu not in GPUS:
        complain(f"Colab has no GPU called {gpu!r}: {', '.join(GPUS)}.")
        return 2
    try:
        file.write_text(notebook("" if gpu == "none" else gpu, keep_models=keep_models), encoding="utf-8")
    except OSError as error:
        complain(f"{file} cannot be written: {error.strerror}.")
        return 2
    say(f"{good('✓')} {file}")
    say(wrapped("1. Upload it at https://colab.research.google.com (File, Upload notebook); once is enough.", 4))
    say(wrapped(f"2. Add the secret {TOKEN_NAME} there (the key symbol): `gpujob colab token` shows its value.", 4))
    say(wrapped("3. Runtime, Run all. The session takes your jobs for as long as it lives.", 4))
    return 0


def show_token(home: Home) -> int:
    """Print the token and nothing else; exit code 2 where there is none."""
    found = Credentials(home).find(TOKEN_NAME)
    if not found:
        complain(f"There is no access to Google Drive yet. Run `{SETUP_COMMAND}`.")
        return 2
    say(found)
    return 0


def show_terms(home: Home, *, accept: bool) -> int:
    """Print the terms, and note that they are agreed to."""
    backend = _backend(home)
    say(f"What Google forbids on Colab (its FAQ, as of {TERMS_AS_OF}):")
    for text in TERMS:
        say(wrapped(f"- {text}", 2))
    if accept:
        backend.accept_terms()
        say(f"{good('✓')} agreed; the free tier is offered from now on")
    elif not backend.records.accepted():
        say(f"To use the free tier: `{ACCEPT_COMMAND}`")
    return 0


def show_status(home: Home, *, as_json: bool) -> int:
    """Print which road is taken, who is there and what was used."""
    backend = _backend(home)
    used, usage, sessions = backend.used(), backend.usage(), _sessions(backend)
    if as_json:
        say_json(
            {
                "road": backend.road,
                "sessions": [{name: each[name] for name in each if name != "described"} for each in sessions],
                "balance_units": usage.balance if usage else None,
                "units_per_hour": usage.units_per_hour if usage else None,
                "free_seconds_used_this_week": used.free_seconds,
                "units_used_this_month": used.units,
            }
        )
        return 0
    say(wrapped(f"New jobs go by {backend.road}: {backend.why_this_road}.", 0))
    for each in sessions:
        doing = f"runs {each['job']}" if each["job"] else "waits for jobs"
        silent = format_duration(max(0.0, each["silent_seconds"]))
        say(f"{each['id']}  {each['described']}; {doing}; last sign {silent} ago")
    if not sessions and backend.road == "notebook":
        say("No Colab session is running: open the notebook (`gpujob colab notebook` writes it) and press Run all.")
    if usage is not None:
        say(
            f"Google says: {usage.balance:g} compute units left, {usage.runtimes} runtimes up, "
            f"{usage.units_per_hour:g} units an hour."
        )
    allowed = Config(home.config).get("colab.weekly_hours")
    say(
        f"Used: {used.free_seconds / 3600:.1f} of about {allowed} free hours in 7 days, "
        f"{used.units:.1f} units this month."
    )
    return 0


def _sessions(backend: ColabBackend) -> list[dict[str, Any]]:
    """Who is there by notebook; on the other road nobody need have access to Drive."""
    if backend.road != "notebook" and not backend.drive_is_set_up:
        return []
    now = backend.post.now()
    return [
        {
            "id": each.id, "gpu": each.gpu or None, "vram_bytes": each.vram_bytes, "ram_bytes": each.ram_bytes,
            "disk_bytes": each.disk_bytes, "job": each.lease, "described": each.described(),
            "silent_seconds": (now - each.seen_at).total_seconds(),
        }
        for each in backend.post.sessions()
    ]  # fmt: skip


def end_session(home: Home, session: str) -> int:
    """Tell a session to end; exit code 2 for one that is not there."""
    backend = _backend(home)
    there = [each.id for each in backend.post.sessions()]
    if session not in there:
        complain(f"There is no session {session!r}. There are: {', '.join(there) or 'none'}.")
        return 2
    backend.post.tell_to_end(session)
    say(f"{good('✓')} {session} was told to end")
    return 0


def _backend(home: Home) -> ColabBackend:
    settings = {**Config(home.config).for_backend(NAME), "credential": Credentials(home).find}
    return ColabBackend(home.root / NAME, Settings.read(settings))
