"""All that knows Lightning or Hydra but not the paper: configuration, stages and artefacts, data modules, callbacks."""
