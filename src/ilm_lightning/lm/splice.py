"""Soft tokens into the placeholder positions of a sequence of embeddings."""

from torch import Tensor


def splice(
    embeddings: Tensor, input_ids: Tensor, placeholder_id: int, soft: Tensor, n_placeholders: int | None = None
) -> Tensor:
    """Replace the embeddings at the placeholder positions by soft tokens.

    The soft tokens fill the placeholders in reading order: row by row, left to right.

    Args:
        embeddings: token embeddings ``[B, T, d]``; what stands at placeholder positions is ignored.
        input_ids: token ids ``[B, T]``.
        placeholder_id: the id that marks a soft-token position.
        soft: soft tokens of each slot ``[n_slots, q, d]``, in reading order.
        n_placeholders: how many placeholders there are, where it is known; else they are counted.

    Returns:
        ``[B, T, d]`` in the dtype of ``embeddings``; differentiable in both inputs.

    Raises:
        ValueError: if the number of placeholders is not ``n_slots * q``, or the widths differ.

    >>> import torch
    >>> words = torch.zeros(1, 4, 1)
    >>> splice(words, torch.tensor([[5, -1, -1, 7]]), -1, torch.tensor([[[1.0], [2.0]]])).flatten().tolist()
    [0.0, 1.0, 2.0, 0.0]
    """
    if soft.shape[-1] != embeddings.shape[-1]:
        raise ValueError(
            f"soft tokens are {soft.shape[-1]} wide and the language model's embeddings {embeddings.shape[-1]}; "
            "build the adapter with output_dim equal to the language model's hidden size"
        )
    mask = input_ids == placeholder_id
    # masked_scatter would silently drop surplus values, and a wrong count on a GPU would fail far from its cause
    n_placeholders = int(mask.sum()) if n_placeholders is None else n_placeholders
    n_soft = soft.shape[0] * soft.shape[1]
    if n_placeholders != n_soft:
        raise ValueError(
            f"the prompts hold {n_placeholders} placeholder positions, but {soft.shape[0]} slots of {soft.shape[1]} "
            f"soft tokens give {n_soft}; tokenise the prompts with the adapter's num_queries"
        )
    return embeddings.masked_scatter(mask.unsqueeze(-1), soft.to(embeddings.dtype))
