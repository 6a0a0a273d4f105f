"""What generated texts are worth: semantic consistency, controls, retrieval, slots, statistics. No Lightning."""
