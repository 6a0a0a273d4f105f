"""Tables to item and user vectors: behavioral (ALS), semantic (sentence-transformers), combined."""
