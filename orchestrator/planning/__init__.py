"""Deciding where a job runs. Pure: values in, a Plan out; no clock, no disk, no network."""
