"""Stand-ins for other people's services, faithful enough to be rented from, broken and billed by."""
