"""Who may come in: a service account's file whose tokens this emulator gives out."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PROJECT = "gpujob-emulated"
TOKEN = "emulated-access-token-of-no-account"


@cache
def private_key() -> str:
    """PEM. One for all emulators of a process, and short: making and reading it takes a while."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def credentials_for(folder: Path, url: str) -> Path:
    """The file that Google's library takes credentials from."""
    file = folder / "service-account.json"
    account = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": f"gpujob@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
    file.write_text(json.dumps(account))
    return file
