"""A stand-in for Google's command line `colab` (google-colab-cli), and Colab behind it: runtimes are real processes."""

from tests.emulators.colab_cli.service import BIN, Colab, Runtime

__all__ = ["BIN", "Colab", "Runtime"]
