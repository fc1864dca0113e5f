"""Schema changes in order, applied by alembic when an older file is opened."""
