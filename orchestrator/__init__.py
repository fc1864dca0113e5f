"""Plans a job, runs it on a rented or local machine, and keeps the record of both."""

__version__ = "0.1.0"
