"""An Optuna sampler that varies the front and screens its variations by a surrogate.

What a schedule costs is known before anything is sampled. So a proposal is not a guess of quality and cost together:
members of the front are varied by the hundred, those variations are varied again that promise most, and the one is
proposed whose expected gain in hypervolume is largest, at its own known cost.

It works in any study with two objectives, quality (a distance, down) and speed (images a second, up): docs/search.md
has an example.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from ...backends.schedule import Schedule
from ..spaces.free import Free, Point
from .descriptions import CostModel, Descriptions, describe
from .improvement import Bounds, expected_improvement
from .models import Composite, Direct, Model, Trust, completed, most_trusted, trust
from .parents import Front, Parents
from .surrogate import Outcomes, Surrogate
from .variation import Variation, is_even

Array = NDArray[np.float64]

LEAST_KNOWN = 4  # trials before a surrogate is asked; until then the front is varied at random
POOL = 400  # variations that are screened at first, and half as many in each round after it
ROUNDS = 2
BEST = 15  # of a round, which are varied again
DIRECT_UP_TO = 15  # trials up to which only qualities are modelled
MOST_KNOWN = 256  # of the best trials a surrogate learns: time and memory grow with their square and more
# Values this much beyond the worst are told alike: how bad a schedule is that nobody wants is no use.
BEYOND_WORST = 1.5


class FrontSampler(BaseSampler):
    """Proposes variations of the front by their expected gain in hypervolume.

    Args:
        space: what it proposes; trials have its parameters.
        seed: of its choices.
        bounds: of the hypervolume, asked for before each proposal; from the first trial if None: four times its
            quality, and its speed.
        outcome: the vector of a finished trial whose squared length is its quality, or None where there is none;
            see `surrogate`. All have one, or the quality itself is modelled.
        constraint: the name of a constraint that trials carry, above 0 where a trial is not wanted.
        fits: whether a schedule may be proposed at all.

    Attributes:
        trust: how far its model is to be trusted; None before there is one.
        expected_gain: in hypervolume, of the last proposal; None where that was not chosen by a model.
    """

    def __init__(
        self,
        space: Free,
        *,
        seed: int | None = None,
        bounds: Callable[[], Bounds | None] = lambda: None,
        outcome: Callable[[FrozenTrial], Array | None] = lambda _: None,
        constraint: str | None = None,
        fits: Callable[[Schedule], bool] | None = None,
    ) -> None:
        self.space = space
        self._random = Random(seed)
        self._independent = RandomSampler(seed=seed)
        self._variation = Variation(space, self._random)
        self._bounds, self._outcome, self._constraint = bounds, outcome, constraint
        self._fits = fits
        self._points: dict[int, Point] = {}
        self._models: dict[str, Array] = {}  # the parameters of each surrogate's kernel, by its name
        self._of_vectors: str | None = None  # the model of vectors that was trusted most when kernels were fitted
        self._fitted = 0
        self.trust: Trust | None = None
        self.expected_gain: float | None = None

    def reseed_rng(self) -> None:
        self._random = Random()
        self._variation = Variation(self.space, self._random)
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space.distributions()

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the next proposal; none, so that they are drawn, before anything was measured."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
        names = search_space.keys()
        known = [each for each in trials if each.state == TrialState.COMPLETE and names <= each.params.keys()]
        running = [
            each
            for each in trials
            if each.state == TrialState.RUNNING and each.number != trial.number and names <= each.params.keys()
        ]
        if not known:
            return {}
        return self.space.values(self._next(known, running))

    def _next(self, known: Sequence[FrozenTrial], running: Sequence[FrozenTrial]) -> Point:
        points = [self._point(each) for each in known]
        pending = [self._point(each) for each in running]
        qualities = np.array([each.values[0] for each in known])
        speeds = np.array([each.values[1] for each in known])
        bounds = self._bounds() or Bounds(4 * qualities[0], speeds[0])
        values = np.array([bounds.logarithm(quality) for quality in qualities])
        reference = (-math.log(bounds.slowest), bounds.logarithm(bounds.worst))
        wanted = np.array([not self._is_unwanted(each) for each in known])
        best = np.sort(np.argsort(values, kind="stable")[:MOST_KNOWN])
        described = describe(self.space, [points[i] for i in best])
        cost = CostModel.fit(described.work, 1 / speeds[best])
        times = np.maximum(-np.log(speeds), bounds.shortest)
        inside = wanted & (times <= reference[0] + 1e-9)
        front = Front(times[inside], values[inside], reference)
        parents = Parents(
            [point for point, each in zip(points, inside, strict=True) if each] or points, front, self._random
        )
        taken = {*points, *pending}
        self.expected_gain = None
        if len(known) < LEAST_KNOWN:
            return self._first_new(self._vary(parents, taken, BEST, parents.pick), taken)
        told = [known[i] for i in best]
        models, ranked = self._learn(told, described, cost, values[best], bounds, len(known))
        model = self._in_turn(models, len(known), len(pending))
        self.trust = trust(model, ranked)
        feasible = self._feasibility(told, described, values[best], reference, model.surrogate.parameters)
        if pending:
            front = front.with_those(*self._expected(pending, model, cost))

        def gains(candidates: Descriptions) -> Array:
            means, deviations = model.predict(candidates)
            costs = np.maximum(cost.log_costs(candidates), bounds.shortest)
            deviations = np.maximum(deviations, 1e-6)
            found = expected_improvement(front.members, reference, costs, means, deviations, bounds.best)
            return found * feasible(candidates)

        candidates = self._vary(parents, taken, POOL, parents.pick)
        scores = gains(describe(self.space, candidates))
        for _ in range(ROUNDS):
            best = self._fitting((candidates[i] for i in np.argsort(-scores)), BEST) or candidates[:1]
            more = self._vary(parents, {*taken, *best}, POOL // 2, lambda best=best: self._random.choice(best))
            candidates = [*best, *more]
            scores = gains(describe(self.space, candidates))
        self.expected_gain = float(scores.max())
        return self._first_new([candidates[i] for i in np.argsort(-scores)], taken)

    def _first_new(self, candidates: Sequence[Point], taken: set[Point]) -> Point:
        """The first candidate that is none of those taken after its gaps are rounded as parameters are."""
        new = (each for each in candidates if self.space.point(self.space.values(each)) not in taken)
        return next(iter(self._fitting(new, 1)), candidates[0])

    def _fitting(self, candidates: Iterable[Point], count: int) -> list[Point]:
        """The first so many that may be proposed."""
        fitting = (each for each in candidates if self._fits is None or self._fits(self._schedule(each)))
        return list(islice(fitting, count))

    def _schedule(self, point: Point) -> Schedule:
        return self.space.build(self.space.values(point))

    def _point(self, trial: FrozenTrial) -> Point:
        if trial.number not in self._points:
            self._points[trial.number] = self.space.point(trial.params)
        return self._points[trial.number]

    def _is_unwanted(self, trial: FrozenTrial) -> bool:
        return self._constraint is not None and trial.constraints.get(self._constraint, 0.0) > 0

    def _vary(self, parents: Parents, taken: set[Point], count: int, pick: Callable[[], Point]) -> list[Point]:
        """So many different points that are not taken; fewer where there are few."""
        found: dict[Point, None] = {}
        for _ in range(20 * count):
            varied = self._variation.vary(pick(), parents.pick())
            if varied is not None and is_even(varied) and varied not in taken:
                found[varied] = None
            if len(found) == count:
                break
        return list(found) or [parents.pick()]

    def _learn(
        self,
        known: Sequence[FrozenTrial],
        described: Descriptions,
        cost: CostModel,
        values: Array,
        bounds: Bounds,
        count: int,
    ) -> tuple[list[Model], Array]:
        """Models of the excess, that of qualities first, and the values (N,) of the trials that they learnt from.

        `known` are the best of `count` trials; kernels are fitted anew as that number grows.
        """
        vectors = [self._outcome(each) for each in known]
        kept = [i for i, each in enumerate(vectors) if each is not None]
        composite = len(kept) >= max(LEAST_KNOWN, len(known) // 2)  # the others are not read here yet
        used = kept if composite else list(range(len(known)))
        iterations = 0
        if not self._models or count >= self._fitted + max(6, self._fitted // 10):
            iterations, self._fitted = 30, count
        qualities, about = np.array([known[i].values[0] for i in used]), described[used]
        worst, least = bounds.logarithm(bounds.worst) + BEYOND_WORST, max(bounds.least, 1e-12)
        stacked, apart = None, bounds.floor
        told = np.minimum(values, worst)[used]
        if composite:
            stacked, apart = completed(np.stack([each for each in vectors if each is not None]), qualities)
        rest = apart - bounds.floor
        beyond = np.minimum(np.log(np.maximum(qualities - apart, least)), worst)
        direct = Direct(about, beyond, cost.log_costs, rest, least, self._models.get("direct"), iterations)
        models: list[Model] = [direct]
        if stacked is not None:
            for name, outcomes in (("mean", Outcomes.around_mean(stacked)), ("zero", Outcomes.around_zero(stacked))):
                models.append(Composite(name, about, outcomes, rest, least, self._models.get(name), iterations))
            if iterations or self._of_vectors is None:
                self._of_vectors = most_trusted(models[1:], told).model
        self._models = {each.name: each.surrogate.parameters for each in models}
        return models, told

    def _in_turn(self, models: Sequence[Model], num_known: int, num_pending: int) -> Model:
        """The model that proposes now: that of qualities, which finds the region of the front, and once enough is known
        at two turns of three one of vectors, which finds what it takes for worse."""
        direct, *of_vectors = models
        if num_known < DIRECT_UP_TO or (num_known + num_pending) % 3 == 0:
            return direct
        return next((each for each in of_vectors if each.name == self._of_vectors), direct)

    def _feasibility(
        self,
        known: Sequence[FrozenTrial],
        described: Descriptions,
        values: Array,
        reference: tuple[float, float],
        parameters: Array,
    ) -> Callable[[Descriptions], Array]:
        """Candidates -> the chance that no constraint speaks against them, beside what their quality says."""
        told = np.array([each.constraints.get(self._constraint or "", -1.0) for each in known])
        vetoed = (told > 0) & (values < reference[1])
        if not vetoed.any():
            return lambda candidates: np.ones(len(candidates))
        signs = np.where(vetoed, 1.0, -1.0)[:, None]
        outcomes = Outcomes(signs, np.array([-1.0]), np.ones(len(signs)), 1)
        surrogate = Surrogate(described, outcomes, parameters, 0)

        def chance(candidates: Descriptions) -> Array:
            means, deviations = surrogate.single(*surrogate.coordinates(candidates))
            return ndtr(-(means - 1.0) / np.maximum(deviations, 1e-3))

        return chance

    def _expected(self, pending: Sequence[Point], model: Model, cost: CostModel) -> tuple[Array, Array]:
        """Times and expected values of what is being measured elsewhere."""
        described = describe(self.space, pending)
        return cost.log_costs(described), model.predict(described)[0]
