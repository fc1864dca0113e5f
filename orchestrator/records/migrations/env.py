"""alembic's entry: run the migrations on the connection that the store hands over."""

from alembic import context
from sqlmodel import SQLModel

import orchestrator.records.tables  # noqa: F401  fills the metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
context.run_migrations()
