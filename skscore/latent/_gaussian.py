"""The variational autoencoder with a Gaussian encoder."""

from __future__ import annotations

from skscore.latent._base import BaseVAE
from skscore.latent._encoders import GaussianEncoder


class GaussianVAE(BaseVAE):
    """Variational autoencoder with a Gaussian encoder (Kingma and Welling 2014).

    ``z ~ N(0, I)``, a decoder ``p(x | z)``, and an encoder ``q(z | x) = N(mu(x), diag(sd(x)^2))``.
    All are learnt by the evidence lower bound ``E_q[log p(x | z)] - KL(q(z | x) || p(z))``, the
    second term in closed form. The peer of :class:`ImplicitVAE`: same decoder, same training.

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
        comes in slowly from a thousandth, so that no mode of the posterior is missed. What the
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
        Mean negative evidence lower bound of each epoch, nats per row in the units of X. Training
        begins with less of it: of the divergence over the first quarter or, with a decoder that is
        known, of the likelihood over the first half.
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
    ImplicitVAE : An encoder whose law may be bent, or in parts.

    References
    ----------
    Kingma and Welling (2014), "Auto-encoding variational Bayes", ICLR, eq. 10.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skscore import GaussianVAE
    >>> X = load_iris().data
    >>> vae = GaussianVAE(max_iter=20, random_state=0).fit(X)
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
        return GaussianEncoder
