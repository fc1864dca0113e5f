"""What runs in the notebook: carried in it, and nothing of ours beside it. Python 3.10+, standard library only."""
