import os


class SecretNotFoundError(Exception):
    pass


class NotebookAccessError(Exception):
    pass


def get(key: str) -> str:
    if os.environ.get("COLAB_SECRETS_CLOSED"):
        raise NotebookAccessError(key)
    value = os.environ.get(f"COLAB_SECRET_{key}")
    if value is None:
        raise SecretNotFoundError(key)
    return value
