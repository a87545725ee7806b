"""Denoising score matching as an estimator."""

from __future__ import annotations

from skscore.estimators._images import ImageEstimator


class DenoisingScoreEstimator(ImageEstimator):
    """Score model fitted by denoising score matching (Vincent 2011), at many noise levels or one.

    A network that sees the noise level learns the score of the data blurred by N(0, sigma^2 I) at
    every sigma between `sigma_min` and `sigma_max` (Song and Ermon 2019). Walking down the levels
    turns noise into samples, with the right share in each of far modes; the probability flow gives
    log densities in nats, and codes rows into standard normal latents and back. The model stands
    over the Gaussian with the mean and covariance of the data, which is exact at every level when
    the data are Gaussian.

    Parameters
    ----------
    sigma : float, array-like or None, default=None
        None is every noise level in a range; a strictly decreasing sequence is a ladder of levels;
        a number is one level, and the field that of the data blurred so: then there are no
        densities or codes, and samples come from Langevin chains. All levels are in units of the
        standardised coordinates: of the columns' deviations, by default.
    n_noise_levels : int, default=None
        Levels of a geometric ladder in place of the whole range. Needs `sigma` None.
    sigma_min, sigma_max : float or "auto", default="auto"
        Ends of the range. "auto" is, for the highest, the largest distance between two rows (of at
        most 2,000 from all over the data); for the lowest 0.01 deviations of the columns, or half
        the step of discrete columns where that is more, up to 0.1.
    hidden_layer_sizes : sequence of int or "auto", default="auto"
        Units of each hidden layer of the network; "auto" is (128, 128, 128), and at one noise
        level (96, 96, 96). For a U-Net the channels at each resolution, the finest first; each
        resolution has half the side of the one before. "auto" is (32, 96).
    activation : {"silu", "softplus", "tanh", "gelu"}, default="silu"
        Activation of the hidden layers. A kinked one (relu) is refused: the objective needs its
        second derivative.
    frequency_spread : float or "auto", default="auto"
        The units of the first hidden layer start with weights multiplied by factors up to this,
        log-uniform from 1, so that some see fine structure; "auto" is 1.0, none, and at one noise
        level 1 + 7 / n_features.
    network : "unet" or callable, default=None
        None is a perceptron. "unet" is :class:`skscore.networks.UNet`, for images; it needs
        `image_shape`. A callable is a factory of a network of your own, as
        ``(n_features, n_outputs, *, generator) -> torch.nn.Module``: rows in and rows out, each
        row for itself; ``n_outputs`` is 1 for an energy. It is called once for each member. At
        many levels its rows come scaled to deviations of about one at every level, and its values
        are scaled in turn and added to the Gaussian's score (as in Karras et al. 2022). Its
        `forward` may take a second argument, (n, 1), the log of the noise level over the root mean
        variance of the data (one that has a default other than None is an option, and is not
        given it; nor is one that may be left out, at one noise level); without one the level enters
        by these scales alone. It replaces
        `hidden_layer_sizes`, `activation` and `frequency_spread`, of which "unet" has no use for
        the last. One of images at many levels that has a method ``remember(rows)`` is given the
        rows that are kept, in deviations, after a sixteenth of its training; what it holds in a
        :class:`skscore.networks.Memory` is hidden from these rows while they are trained on.
    image_shape : (int, int, int), default=None
        Channels, height and width, where each row of X is an image, flattened in this order. All
        pixels have then one centre and one scale, the Gaussian below the network is isotropic
        without shrinkage, no mixture is fitted, noise levels are drawn log-normally (Karras et al.
        2022), the field is evaluated in float32, and from 17 pixels on `score` estimates the
        divergence along 16 directions of each row's own. A "unet" at many levels that is no
        energy, and a ``functools.partial`` of `UNet`, trains with products in bfloat16 where these
        are known to be faster. Needs a `network`.
    n_members : int or "auto", default="auto"
        Networks whose mean the field is; "auto" is 2, and 1 for images. Each holds out other
        rows, and one loop trains all.
        The time grows with their number; more help most where rows are few.
    parametrization : {"score", "energy"}, default="score"
        Whether the network is the field itself, or an energy whose gradient is minus the field:
        then `energy` and MALA are there, and a fit takes several times as long.
    standardize : {"full", "diag", None}, default="diag"
        Coordinates u of the model: whitened by the covariance, scaled column by column, or only
        centred.
    shrinkage : float in [0, 1] or "auto", default="auto"
        Weight of the identity in the correlation matrix of the fitted Gaussian; 0 is that of the
        rows. "auto" leaves each row out in turn (in closed form), and is 0 where that shows no
        clear gain.
    max_iter : int or "auto", default="auto"
        Passes over the training rows; "auto" is as many as make 3,600 steps, at one noise
        level 2,000, and for images 11,000.
    batch_size : int or "auto", default="auto"
        Rows to a step, each with two opposite draws of noise; "auto" is 128, for images 16, or
        all of them where there are fewer.
    curl_penalty : float, default=10.0
        Weight of the curl of the field at one noise level, as in :class:`SlicedScoreEstimator`; at
        many levels, and for images, there is no such penalty.
    learning_rate : {"adaptive", "constant"}, default="adaptive"
        Whether the rate falls: at a plateau of the held-out objective, and linearly over the last
        30 % of the steps.
    learning_rate_init : float or "auto", default="auto"
        Rate of AdamW at its height; "auto" is 0.006, and 0.005 for images. The weights of
        convolutions move by Muon (Jordan et al. 2024) at this rate.
    weight_decay : float, default=0.1
        Decoupled weight decay of both.
    average : bool, default=True
        Whether the weights are averaged over the last 200 steps, with exponential weights.
    early_stopping : bool, default=True
        Whether rows are held out to choose the weights and the rate. If False all rows are
        trained on, and the weights are those at the end.
    validation_fraction : float, default=0.1
        Share of the rows held out, of images at most 256; they are never trained on.
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
        Whether at most 10,000 training rows are kept in the model, for the samplers "langevin" and
        "mala" to start their chains from: without them these start from the fitted Gaussian, and
        far modes get the wrong weights. Samples from noise do not need them. But a
        :class:`skscore.networks.UNet` at many levels remembers them: beside a noisy image it sees
        the mean of those kept, weighed by how near they are, and in training never the image
        itself. If False it learns less, and its samples are worse.
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
        Minus the objective of the held-out rows at each check, with the same noise each time; the
        first is the Gaussian's.
    sigmas_ : ndarray of shape (n_noise_levels,)
        Noise levels, decreasing; the two ends where the model has every level between.
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
    SlicedScoreEstimator : The score of the data without noise; nearer to it on most data.
    KDEScoreBaseline : The score of a kernel density estimate.

    Notes
    -----
    `sample` walks from noise to data: ``sampler="auto"`` is "dpm_solver", the best in
    ``benchmarks/sampling.py``; the others are "reverse_sde", "predictor_corrector",
    "churned_heun", "probability_flow" and "annealed_langevin", and from training rows at the lowest
    level "langevin" and, with an energy, "mala". Keywords: ``n_steps`` (100 levels that are walked
    down; annealed Langevin: 10 steps at each of 50 levels; chains at the lowest level: 200 steps; a
    ladder is walked down level by level, and takes it for annealed Langevin alone), ``callback``,
    which sees ``(step, which, X)`` after each step of each block of 256 rows (images: 32),
    ``init``, rows in the units of X at the highest level in place of noise, and ``step_size``,
    ``n_corrections``, ``churn`` where the sampler has them.

    Images that are drawn from noise are led away from what the network said after a sixteenth of
    its training (Karras et al. 2024), when it did not yet remember images: ``guidance`` is 2.0 by
    default, and 1 is none. That sharpens outlines, and takes up to twice the evaluations: it leads
    from a quarter deviation of the data up. ``n_corrections`` is how often "dpm_solver" leaves each
    level from a quarter to one deviation, by noise, and returns, 1 by default where samples are
    led and 0 elsewhere; more sharpen outlines once more. The field, densities and codes are the
    network's own, and so are samples with ``given`` unless `guidance` says otherwise. Tables keep
    no early network.

    ``given=``, with `sampler` "auto" or "predictor_corrector", draws the rest of each row from its
    law given some values: an array of shape
    (n_features,) or (n_samples, n_features), or a data frame, NaN where a value is to be drawn; or
    a dictionary of known values by column. They come back as they are. Each level has a step down
    and 20 Langevin corrections of ``step_size=0.5`` squared noise levels (`n_corrections`), and the
    lowest 100 more: some 2,200 evaluations where samples without `given` take 100.

    A constant column is warned about; the field there is ``-(x - mean)``, it is no part of the
    objective, and samples have the constant. Directions in which the columns are collinear are
    treated alike, in standardised units, and warned about where there are more rows than columns.

    References
    ----------
    Vincent (2011), "A connection between score matching and denoising autoencoders", Neural
    Computation 23.
    Song and Ermon (2019), "Generative modeling by estimating gradients of the data distribution",
    NeurIPS.
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole (2021), "Score-based generative modeling
    through stochastic differential equations", ICLR.
    Karras, Aittala, Aila and Laine (2022), "Elucidating the design space of diffusion-based
    generative models", NeurIPS.
    Karras, Aittala, Kynkaanniemi, Lehtinen, Aila and Laine (2024), "Guiding a diffusion model with
    a bad version of itself", NeurIPS.

    Examples
    --------
    >>> from skscore import DenoisingScoreEstimator
    >>> from skscore.datasets import Gaussian
    >>> X = Gaussian().sample(500, random_state=0)
    >>> est = DenoisingScoreEstimator(max_iter=5, random_state=0).fit(X)
    >>> est.sample(3, random_state=0).shape
    (3, 2)
    >>> est.log_density(X).shape
    (500,)
    """

    def __init__(
        self,
        *,
        sigma=None,
        n_noise_levels=None,
        sigma_min="auto",
        sigma_max="auto",
        hidden_layer_sizes="auto",
        activation="silu",
        frequency_spread="auto",
        network=None,
        image_shape=None,
        n_members="auto",
        parametrization="score",
        standardize="diag",
        shrinkage="auto",
        max_iter="auto",
        batch_size="auto",
        curl_penalty=10.0,
        learning_rate="adaptive",
        learning_rate_init="auto",
        weight_decay=0.1,
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
        self.sigma = sigma
        self.n_noise_levels = n_noise_levels
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.frequency_spread = frequency_spread
        self.network = network
        self.image_shape = image_shape
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
