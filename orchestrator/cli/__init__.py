"""The command line: parse, call, print. What is heavy is imported by the command that needs it."""
