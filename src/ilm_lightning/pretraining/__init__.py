"""Phase 1: the Q-Former learns from item texts and from who interacted with what; no language model runs in it."""
