"""What a transformer takes of a GPU, found without one: its real code run for two steps on fake tensors.

Carried to machines as a folder, like the runner: it needs torch and transformers of the environment it runs in, and
nothing of ours. Python 3.8 or newer. Sizes are bytes. ``__main__`` has the commands.
"""
