"""The stages of a run: prepare, embed, tasks, pretrain, tune, evaluate, export. Each turns input artefacts into one."""
