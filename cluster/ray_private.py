"""All private parts of Ray that dftune uses, of the minor version that pyproject.toml names.  A test holds each."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError


def forget_token() -> None:
    """Have Ray read its token anew: it keeps the first one that it has read."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def deaths_by_memory() -> Iterator[None]:
    """Inside, a trial that Ray's memory monitor ends is a trial that failed.

    Ray Tune 2.60 takes the error for one of its own and gives up the whole search: it asks for RayActorError, which
    Ray's OutOfMemoryError is not.
    """
    from ray.air.execution._internal import actor_manager
    from ray.tune.execution import tune_controller

    modules = [actor_manager, tune_controller]
    before = [module.RayActorError for module in modules]
    try:
        for module in modules:
            module.RayActorError = (RayActorError, OutOfMemoryError)
        yield
    finally:
        for module, error in zip(modules, before, strict=True):
            module.RayActorError = error


def actor_of(trial: Any) -> Any:
    """The actor that a trial of Ray Tune runs in, None where it has none."""
    return trial.temporary_state.ray_actor


def forget_metrics(trial: Any) -> None:
    """Let go of means and extremes of each number that a trial has reported: 23 KB a trial that nobody reads."""
    trial.metric_analysis.clear()
    trial.metric_n_steps.clear()


def live_trials(controller: Any) -> list[Any]:
    """The trials that have not ended, as Ray Tune's controller knows them."""
    return list(controller.get_live_trials())


def searcher_of(controller: Any) -> Any:
    """The searcher that Ray Tune's controller asks."""
    return controller.search_alg.searcher


def end_trial(controller: Any, trial: Any) -> None:
    """End a paused trial."""
    controller.stop_trial(trial)


def quiet_job_client() -> None:
    """Have the client of Ray's job API log warnings alone: it would tell of every step."""
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
