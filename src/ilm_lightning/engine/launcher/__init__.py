"""Many runs from one command: each a process tree of its own, in a folder that is fixed before it starts."""
