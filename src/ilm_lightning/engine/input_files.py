"""The user's own files that a run reads, by content: a run is finished only as long as they are what it read."""

from collections.abc import Iterator
from pathlib import Path

from ilm_lightning.engine.config import Config


def input_digests(config: Config) -> dict[str, str]:
    """Digests of the files and folders that a configuration names, as they stand in the keys of artefacts.

    Args:
        config: the validated configuration.

    Returns:
        Setting, for a folder of data with a file's name, to digest; empty where all that is read is named by the
        configuration itself.

    Raises:
        OSError: a file cannot be read.
        TaskFileError: ``tasks.file`` cannot be used.
        AssetError: a copy named in ``assets`` is not there.
    """
    from ilm_lightning.assets.cache import cache_folder, path_digest

    cache = cache_folder()
    data = {name: path_digest(path, cache) for name, path in _data_files(config)}
    return data | _tasks(config) | _own_assets(config) | _adapter(config)


def asset_settings(config: Config) -> dict[str, str]:
    """The assets that a run needs: setting to name or path."""
    names = {}
    if config.data.kind != "custom" and not config.data.path:
        names["data.name"] = config.data.name
    if config.data.film_facts:
        names["data.film_facts"] = "film-facts"
    names["encoder.text_model"] = config.encoder.text_model
    names["evaluation.scorer"] = config.evaluation.scorer
    if config.evaluation.second_scorer:
        names["evaluation.second_scorer"] = config.evaluation.second_scorer
    if config.adapter.init != "random":
        # phase 1 reads texts with BERT's tokenizer whatever the adapter is
        names["adapter.bert"] = config.adapter.bert
    names["lm.name"] = config.lm.name
    return names


def _data_files(config: Config) -> Iterator[tuple[str, Path]]:
    data = config.data
    for key, value in (("path", data.path), ("interactions", data.interactions), ("items", data.items)):
        if value is None:
            continue
        path = Path(value)
        # readers open the files beside a named one as well
        folder = path.parent if key == "path" and path.is_file() else path
        files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else [path]
        # an empty folder has a digest too
        for file in files or [folder]:
            yield f"data.{key}/{file.name}", file


def _tasks(config: Config) -> dict[str, str]:
    from ilm_lightning.engine.artifacts import file_hash
    from ilm_lightning.engine.stages.own_tasks import own_tasks

    own = own_tasks(config)
    found = {} if own is None else {"tasks.file": own.digest}
    if config.tasks.prompts is not None:
        found["tasks.prompts"] = file_hash(Path(config.tasks.prompts))
    return found


def _own_assets(config: Config) -> dict[str, str]:
    """Folders that are named by path, and the user's copies of what has a name."""
    from ilm_lightning.assets import REGISTRY, resolve
    from ilm_lightning.assets.fetch import given_path

    found = {}
    for setting, name in asset_settings(config).items():
        asset = REGISTRY.get(name)
        own = Path(name).expanduser().exists() if asset is None else given_path(asset, config.assets) is not None
        if own:
            found[setting] = resolve(name, overrides=config.assets).sha256
    return found


def _adapter(config: Config) -> dict[str, str]:
    if config.adapter.kind != "custom":
        return {}
    # imports the user's module, and torch
    from ilm_lightning.engine.stages.pretrain import adapter_key

    return {"adapter._target_": str(adapter_key(config.adapter)["source"])}
