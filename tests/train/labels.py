"""What every single label costs, by torch's own cross entropy: what training only ever sums up."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from outcrop.train.text import Packed, TextLearner


def per_label(learner: TextLearner, batch: Packed) -> Tensor:
    """Negative log-likelihood of each label of a packed row, float32."""
    return cross_entropy(learner.logits(batch).float(), batch.targets, reduction="none")
