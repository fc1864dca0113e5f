"""Where models that jobs download are kept for the next session, if the user wants that: on their own Drive."""

from __future__ import annotations

from pathlib import Path

PLACE = "GPUJOB_MODELS"
"""The variable by which the notebook's cell says where; absent, each session downloads anew."""


def cache_settings(place: str, private: Path) -> dict[str, str]:
    """What jobs get so that the libraries of Hugging Face and Ollama keep models in ``place``; nothing without one.

    A login of a job stays in the runtime, in ``private``: Hugging Face would keep its token beside the models.
    """
    if not place:
        return {}
    return {
        "HF_HOME": f"{place}/huggingface",
        "HF_TOKEN_PATH": str(private / "huggingface-token"),
        "OLLAMA_MODELS": f"{place}/ollama",
    }
