"""Ways of reaching a machine: how files and commands get there and back."""
