"""What was done and what it cost, from the records: values for tables and for ``--json``."""
