"""Doing: jobs through durable steps, from the plan to the last cent accounted for."""
