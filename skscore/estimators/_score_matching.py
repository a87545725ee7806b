"""Exact score matching as an estimator."""

from __future__ import annotations

from skscore.estimators._base import NetworkScoreEstimator
from skscore.objectives import SMALL, exact


class ScoreMatchingEstimator(NetworkScoreEstimator):
    """Score model fitted by exact score matching (Hyvarinen 2005).

    A network over the score of a Gaussian, ``s(u) = -P u + r(u)`` in standardised coordinates u,
    that minimises ``mean[tr ds/du + 1/2 ||s||^2]``. It starts as the Gaussian with the mean and
    covariance of the data, and keeps the weights that are best on held-out rows.

    The trace of a network with one or two hidden layers has a closed form that costs about one
    forward pass at any number of features; deeper ones cost n_features times as much, and
    :class:`SlicedScoreEstimator` is then faster, and its three layers were nearer to the truth, or
    within two percent, on every task of ``benchmarks/accuracy.py``. Up to three features the two
    are the same: the default has three layers, and both take all unit vectors.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Units of each hidden layer of the network; "auto" is (96, 96, 96), and for
        :class:`ScoreMatchingEstimator` (96, 96) from four features on: with the exact trace a third
        layer multiplies the time.
    activation : {"silu", "softplus", "tanh", "gelu"}, default="softplus"
        Activation of the hidden layers. A kinked one (relu) is refused: the objective needs its
        second derivative.
    frequency_spread : float or "auto", default="auto"
        The units of the first hidden layer start with weights multiplied by factors up to this,
        log-uniform from 1, so that some see fine structure; "auto" is 1 + 7 / n_features, and 1.0
        switches it off.
    network : callable, default=None
        A factory ``(n_features, n_outputs, *, generator) -> torch.nn.Module`` of a network of
        your own, rows in and rows out, each row for itself; ``n_outputs`` is 1 for an energy. It
        is called once for each member.
        It replaces `hidden_layer_sizes`, `activation` and `frequency_spread`.
    sigma : float, default=0.0
        Noise level, in units of the standardised coordinates: the field is that of the data plus
        noise N(0, sigma^2 I). For rows without a density (discrete, tied or repeated values), on
        which the objective is unbounded below at sigma 0.
    n_members : int, default=2
        Networks whose mean the field is. Each holds out other rows, and one loop trains all.
        The time grows with their number; more help most where rows are few.
    parametrization : {"score", "energy"}, default="score"
        Whether the network is the field itself, or an energy whose gradient is minus the field:
        then `energy` and MALA are there, and a fit takes several times as long.
    standardize : {"full", "diag", None}, default="full"
        Coordinates u of the model: whitened by the covariance, scaled column by column, or only
        centred.
    shrinkage : float in [0, 1] or "auto", default="auto"
        Weight of the identity in the correlation matrix of the fitted Gaussian; 0 is that of the
        rows. "auto" leaves each row out in turn (in closed form), and is 0 where that shows no
        clear gain.
    max_iter : int or "auto", default="auto"
        Passes over the training rows; "auto" is as many as make 2,000 steps.
    batch_size : int or "auto", default="auto"
        Rows to a step; "auto" is 256, or all of them where there are fewer.
    curl_penalty : float, default=10.0
        Weight of a penalty on the curl of the field, since a true score is a gradient and has
        none; 0.0 switches it off. The strongest regulariser from ten features up. Not used for an
        energy, which has no curl.
    learning_rate : {"adaptive", "constant"}, default="adaptive"
        Whether the rate falls: at a plateau of the held-out objective, and linearly over the last
        30 % of the steps.
    learning_rate_init : float, default=0.006
        Rate of AdamW at its height.
    weight_decay : float, default=0.01
        Decoupled weight decay of AdamW.
    average : bool, default=True
        Whether the weights are averaged over the last 200 steps, with exponential weights.
    early_stopping : bool, default=True
        Whether rows are held out to choose the weights and the rate. If False all rows are
        trained on, and the weights are those at the end.
    validation_fraction : float, default=0.1
        Share of the rows held out; they are never trained on.
    n_iter_no_change : int, default=5
        Checks of the held-out objective without a gain after which the rate falls to 0.3 of
        itself, from the best weights; training stops at the fourth time, and at the first with a
        constant rate. There are sixty checks or more, where there are as many epochs.
    tol : float, default=0.0
        What counts as a gain, in the units of `validation_scores_`.
    residual_test : bool, default=True
        Whether the network returns to the Gaussian that it starts from, unless the held-out rows of
        all members show a gain beyond two standard errors. Needs `early_stopping`.
    subspace_test : bool, default=True
        Whether the networks go on in fewer directions, after a half or three quarters of the
        passes, where they are better so on the held-out rows by more than a standard error: as
        they are where the data are Gaussian in the others. Needs `early_stopping`; not for images,
        nor with a `network` of your own.
    mixture : bool, default=True
        Whether mixtures are fitted beside the network by maximum likelihood. The likelier one takes
        the share of the field that the held-out rows ask for: none where that is within one and a
        half standard errors of none, otherwise all where it is within as much of all. One is of
        Gaussians, their number chosen by the Bayesian information criterion, ten rows at least to a
        column of each; the other is of products of one-dimensional densities, for columns that are
        independent within groups (one group beyond five features; not of rows without a density; at
        many noise levels not with correlated columns and `standardize="full"`). Needs
        `early_stopping` and twenty held-out rows, all members together; up to 64 features, of at
        most 10,000 rows.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights and coordinates of the last fit.
    keep_rows : bool, default=True
        Whether at most 10,000 training rows are kept in the model, for `sample` to start its
        chains from. Without them chains start from the fitted Gaussian, and far modes get the
        wrong weights.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto" is CUDA where there is a device, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds the held-out rows, the initial weights, the batches and whatever the objective draws.
    verbose : int or bool, default=0
        Lines printed while it fits, in tens; one to an epoch at most.

    Attributes
    ----------
    loss_curve_ : list of float
        Mean training objective of each epoch.
    validation_scores_ : list of float or None
        `score` of the held-out rows at each check, in coordinates u; the first is the Gaussian's.
    n_iter_ : int
        Epochs that were run.
    n_directions_ : int
        Directions that each network acts in: as many as `subspace_test` left in this fit, or all.
    mixture_share_ : float
        Share of a mixture in the field: 0.0 where the network is all of it.
    location_ : ndarray of shape (n_features,)
        Mean of the training rows.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance of the training rows, the metric of `score`.
    shrinkage_ : float
        The weight in use.
    n_features_in_ : int
        Columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had names.

    See Also
    --------
    SlicedScoreEstimator : Random projections in place of the trace.
    KDEScoreBaseline : The score of a kernel density estimate.

    Notes
    -----
    `sample` takes ``sampler="langevin"`` (the default; with an energy "mala" is) and the keywords
    ``n_steps=200``, ``step_size=None``, ``init=None`` and ``callback=None``. Chains start from
    training rows, or from ``init``, (n_samples, n_features) in the units of X. The step is in
    squared units of u; the automatic one is 0.1 (MALA: 0.3) of the inverse curvature of log p at
    the noise level, the mean one ``E||s||^2 / d`` or half the largest where that is more.
    ``callback(step, which, X)`` sees each block of 256 rows, the slice `which` of the result, after
    each step. A chain that runs out of the reach of the training rows begins again where it
    started, with a warning where these are more than one in a hundred; when they are more than
    half, `sample` raises DivergenceError. MALA refuses moves out of reach, and raises it when under
    one move in a hundred is accepted.

    A constant column is warned about; the field there is ``-(x - mean)``, it is no part of the
    objective, and samples have the constant. Directions in which the columns are collinear are
    treated alike, in standardised units, and warned about where there are more rows than columns.

    References
    ----------
    Hyvarinen (2005), "Estimation of non-normalized statistical models by score matching", JMLR 6,
    eq. 4.

    Examples
    --------
    >>> from skscore import ScoreMatchingEstimator
    >>> from skscore.datasets import Gaussian
    >>> X = Gaussian().sample(500, random_state=0)
    >>> est = ScoreMatchingEstimator(max_iter=20, random_state=0).fit(X)
    >>> est.score_samples(X).shape
    (500, 2)
    >>> est.sample(3, random_state=0).shape
    (3, 2)
    """

    def __init__(
        self,
        *,
        hidden_layer_sizes="auto",
        activation="softplus",
        frequency_spread="auto",
        network=None,
        sigma=0.0,
        n_members=2,
        parametrization="score",
        standardize="full",
        shrinkage="auto",
        max_iter="auto",
        batch_size="auto",
        curl_penalty=10.0,
        learning_rate="adaptive",
        learning_rate_init=0.006,
        weight_decay=0.01,
        average=True,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=5,
        tol=0.0,
        residual_test=True,
        subspace_test=True,
        mixture=True,
        warm_start=False,
        keep_rows=True,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.frequency_spread = frequency_spread
        self.network = network
        self.sigma = sigma
        self.n_members = n_members
        self.parametrization = parametrization
        self.standardize = standardize
        self.shrinkage = shrinkage
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.curl_penalty = curl_penalty
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.residual_test = residual_test
        self.subspace_test = subspace_test
        self.mixture = mixture
        self.warm_start = warm_start
        self.keep_rows = keep_rows
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _automatic_sizes(self, n_features):
        sizes = super()._automatic_sizes(n_features)
        return sizes if n_features <= SMALL else sizes[:2]

    def _objective(self):
        return exact
