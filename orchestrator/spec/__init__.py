"""The job spec: what a user writes, how it is read, and every way in which it can be wrong."""
