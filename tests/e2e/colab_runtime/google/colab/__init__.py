"""Stands in for Colab's own package: what the notebook uses of it behaves as Colab's documentation says."""
