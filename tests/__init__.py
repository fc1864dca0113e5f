"""Tests; a package so that all of them can import ``tests.emulators``."""
