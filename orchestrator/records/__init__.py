"""The journal's tables and queries: the only record of what was planned, done, spent and seen."""
