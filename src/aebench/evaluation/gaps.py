"""What the ELBO lacks of log p(x): a part for q's family, and a part for one encoder of all images.

Of an image, with q* the best q of the encoder's family for it alone (Cremer et al. 2018, Table 1):

    log p(x) − ELBO(q) = [log p(x) − ELBO(q*)] + [ELBO(q*) − ELBO(q)].

q* comes of many gradient steps from q on. log p(x) is the importance-weighted bound from Laplace's proposal, whichever
the evaluation's own is. With drawn labels q* has the best q(z|x, y) of each class, and the best q(y|x) with them.
"""

from torch import Tensor

from aebench.evaluation.marginal import BatchedProposal, Budget, Marginal
from aebench.evaluation.proposals import propose
from aebench.evaluation.proposals.refined import stepped
from aebench.models.generative import GenerativeModel
from aebench.models.labels import PILOT
from aebench.randomness import generator

# Importance samples behind log p(x), and samples behind each ELBO.
IMPORTANCE_SAMPLES, ELBO_SAMPLES = 1000, 200
# The learning rates of the steps from q to q*, which lead down to 0, so that the last ones average the noise.
STEPS, FIRST_LEARNING_RATE = 200, 0.05
LEARNING_RATES = [FIRST_LEARNING_RATE * (1 - step / STEPS) for step in range(STEPS)]
# Samples a class behind q*(y|x), where labels are drawn.
PILOT_OF_BEST = 32


def gaps(model: GenerativeModel, x: Tensor, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """The approximation gap and the amortisation gap of images `[B, D]` in nats, float64 `[B]` each, on the CPU.

    Args:
        model: its q is a Gaussian with a diagonal covariance.
        x: `[B, D]`.
        seed: the noise of steps and samples is derived from it.
        first: and from the place of the first image.

    Raises:
        ConfigError: q is none.
        Diverged: the decoder's derivative is not finite.
    """
    marginal = Marginal(model)
    classes = marginal.classes
    noise = generator(seed, "gaps: log-likelihood", first)
    laplace = propose("laplace", marginal, x, seed=seed).marginal
    estimate = marginal.estimate(x, IMPORTANCE_SAMPLES, noise, proposal=laplace, for_rate=False)
    of_steps = [
        generator(seed, "gaps: steps", first + image, label) for image in range(len(x)) for label in range(classes or 1)
    ]
    best = BatchedProposal.make(lambda x, y: stepped(model, x, of_steps, y, LEARNING_RATES), x, classes)
    # The same noise for both, so that their difference has less of it.
    of_best, of_encoder = (
        marginal.elbo(x, Budget(pilot, ELBO_SAMPLES), generator(seed, "gaps: ELBO", first), proposal)
        for proposal, pilot in ((best, PILOT_OF_BEST), (marginal.amortised(x), PILOT))
    )
    return estimate.marginal.iw_log_likelihood - of_best, of_best - of_encoder
