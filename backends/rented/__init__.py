"""What renting a machine is everywhere: whose it is, how it is reached, how long it was held, whose clock counts."""
