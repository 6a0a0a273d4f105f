"""Raw files to two typed tables, Interactions and ItemCatalog. No deep-learning library, no tokenizer."""
