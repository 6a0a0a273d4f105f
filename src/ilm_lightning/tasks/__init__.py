"""Tasks: prompts with item slots and their targets."""
