"""Which anchors and which proposals a step learns from: a few of many, drawn at random, with a share of positives (Fast
R-CNN, section 2.3; Faster R-CNN, section 3.1.3)."""

from keras import ops


def sample(positive, negative, noise, count, share):
    """Choose at most `count` candidates of each image, of them at most `share` positives; negatives fill up.

    Args:
        positive, negative: (B, N) bool; a candidate that is neither is never chosen.
        noise: (B, N) float in [0, 1): the draw. Of those that may be chosen, the ones with the highest noise are.
        count: int.
        share: float in [0, 1].

    Returns:
        (B, N) bool, the chosen.
    """
    positive = _highest(positive, noise, int(count * share))
    left = count - ops.sum(ops.cast(positive, "int32"), axis=1, keepdims=True)
    return ops.logical_or(positive, _highest(negative, noise, left))


def sample_indices(positive, negative, noise, count, share):
    """As `sample`, with a result of fixed size.

    Returns:
        indices (B, min(count, N)) int32, the chosen positives first, and (B, min(count, N)) bool: whether the entry was
        chosen, or only fills up.
    """
    chosen = sample(positive, negative, noise, count, share)
    # A positive has a key from 2 to 3, a negative one from 1 to 2, the rest 0.
    rank = ops.cast(chosen, "float32") * (1 + ops.cast(positive, "float32") + noise)
    keys, indices = ops.top_k(rank, min(count, positive.shape[1]))
    return ops.cast(indices, "int32"), keys > 0


def _highest(candidates, noise, count):
    """(B, N) bool: of the candidates the `count` with the highest noise."""
    order = ops.argsort(-ops.where(candidates, noise, -1.0), axis=1)
    rank = ops.argsort(order, axis=1)
    return ops.logical_and(candidates, rank < ops.cast(count, rank.dtype))
