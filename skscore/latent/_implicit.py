"""The variational autoencoder whose encoder is a network of noise."""

from __future__ import annotations

from skscore.latent._base import BaseVAE
from skscore.latent._encoders import ImplicitEncoder


class ImplicitVAE(BaseVAE):
    """Variational autoencoder with an implicit encoder, learnt by score matching.

    ``z ~ N(0, I)``, a decoder ``p(x | z)``, and an encoder ``z = g(x, eps)``, a network of the row
    and of noise, whose law may be bent or in several parts. It has no density, so the entropy's
    gradient is taken from a score network ``s_psi(z | x)`` that learns beside it by score matching
    at its codes (the sliced objective along every unit vector, in closed form): training minimises
    ``-log p(x | z) - log p(z) + stopgrad[s_psi(z | x)] . z`` in its gradient.

    Codes are ``z = mu(x) + sd(x) u``, and the network of noise is that of u. The loss therefore has
    one more term, the gauge penalty ``3 (|E u|^2 + |E u^2 - 1|^2)``. It is zero at the optimum and
    takes away only that mu, sd and u may trade location and scale. With it the entropy's part of mu
    and sd is exact, in closed form; the score network serves the shape of u alone.

    While a decoder is learnt, u is normal for the first half of training: until then the fit is
    that of :class:`GaussianVAE`, whose loss begins without the divergence from the prior. With a
    decoder that is known u is bent from the start, and starts in humps that can part.

    The value of that loss is no bound on the log likelihood and may rise while the model gets
    better: watch `reconstruction_curve_` and `prior_curve_`, and compare models by `score`.

    A fit takes one to two times as long as that of :class:`GaussianVAE`, and about six times with a
    decoder that is known (more where networks are small): there each row has 16 draws to a step,
    since fewer lose modes. Modes of unequal shares are not always given theirs.

    Parameters
    ----------
    n_components : int, default=2
        Latent columns; at most as many as there are features, unless a decoder is given.
    likelihood : {"bernoulli", "gaussian"}, default="gaussian"
        Law of a row given its code: "gaussian" has independent columns around the decoder's mean,
        "bernoulli" independent pixels in [0, 1]. For values between 0 and 1 the Bernoulli log
        likelihood is minus the cross-entropy, which is not normalised.
    decoder : callable, default=None
        A factory ``(n_components, n_features, *, generator) -> torch.nn.Module`` of a network from
        codes to means in the units of X, or to logits for ``likelihood="bernoulli"``. One without
        trainable parameters is a known decoder: the encoder alone is learnt, and the likelihood
        comes in slowly from a thousandth, so that modes of the posterior are not missed. What the
        factory returns is copied and used in evaluation mode: no dropout, and batch normalisation
        by the statistics that it has. It is trained in float32 and used in float64: tensors that it
        holds must be buffers.
    noise_scale : float or "auto", default="auto"
        Deviation of the columns about the decoder's mean, in the units of X; "auto" learns one for
        each column, at least a hundredth of the column's deviation. Not for "bernoulli".
    hidden_layer_sizes : sequence of int, default=(256, 256)
        Units of each hidden layer of the encoder; the decoder has the same, reversed.
    activation : {"silu", "softplus", "tanh", "gelu"}, default="silu"
        Activation of the hidden layers.
    max_iter : int or "auto", default="auto"
        Epochs; "auto" is as many as make 3,000 steps, or 4,000 for a known decoder.
    batch_size : int or "auto", default="auto"
        Rows to a step; "auto" is 128.
    learning_rate_init : float, default=0.002
        Rate of AdamW at its highest; it falls to zero over the second half of training.
    weight_decay : float, default=0.01
        Decoupled weight decay.
    device : str, default="auto"
        "cpu", "cuda", "cuda:0" and so on; "auto" is CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights, the batches and the noise of a fit. With an int two fits are equal, and
        no global stream is touched.
    verbose : int or bool, default=0
        Lines printed while it fits, in tens; one to an epoch at most.

    Attributes
    ----------
    loss_curve_ : list of float
        Mean loss of each epoch, each term at its full weight. It is a surrogate, right in its
        gradient and not in its value; for the rest in nats per row in the units of X.
    reconstruction_curve_ : list of float
        Mean ``-log p(x | z)`` of each epoch, nats per row in the units of X.
    prior_curve_ : list of float
        Mean ``-log p(z)`` of each epoch at codes of the encoder.
    n_iter_ : int
        Epochs.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, when all are strings.

    See Also
    --------
    GaussianVAE : The same with a Gaussian encoder.

    References
    ----------
    Song, Garg, Shi and Ermon (2019), "Sliced score matching: a scalable approach to density and
    score estimation", UAI, section 5.2.
    Bowman, Vilnis, Vinyals, Dai, Jozefowicz and Bengio (2016), "Generating sentences from a
    continuous space", CoNLL, section 3.1 (the divergence comes in slowly).
    Li and Turner (2018), "Gradient estimators for implicit models", ICLR, eq. 3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skscore import ImplicitVAE
    >>> X = load_iris().data
    >>> vae = ImplicitVAE(max_iter=20, random_state=0).fit(X)
    >>> vae.transform(X).shape, vae.encode(X, n_draws=5, random_state=0).shape
    ((150, 2), (5, 150, 2))
    >>> vae.sample(3, random_state=0).shape
    (3, 4)
    >>> vae.score(X) > -10
    True
    """

    def __init__(
        self,
        n_components=2,
        *,
        likelihood="gaussian",
        decoder=None,
        noise_scale="auto",
        hidden_layer_sizes=(256, 256),
        activation="silu",
        max_iter="auto",
        batch_size="auto",
        learning_rate_init=0.002,
        weight_decay=0.01,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.likelihood = likelihood
        self.decoder = decoder
        self.noise_scale = noise_scale
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _encoder(self):
        return ImplicitEncoder
