"""What there is of replicas, as Ray Serve's controller says it while they start, run and are stopped."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dftune.platform.serve.proxy import Replicas, replicas
from dftune.tests.platform.serve.test_turns import until


@pytest.fixture
def serve(local_ray):
    from ray import serve

    serve.start(proxy_location="Disabled")
    yield serve
    serve.shutdown()


def test_a_replica_that_is_stopped_answers_what_it_has_accepted(serve, tmp_path):
    @serve.deployment(graceful_shutdown_timeout_s=600, graceful_shutdown_wait_loop_s=0.1)
    class Patient:
        """Starts, and answers, when files are there."""

        def __init__(self, version, ready):
            import time

            self.version = version
            while not ready.exists():
                time.sleep(0.05)

        async def __call__(self, asked, ready):
            import asyncio

            asked.touch()
            while not ready.exists():
                await asyncio.sleep(0.05)
            return self.version

    assert replicas() is Replicas.NONE
    (first, second, third, fourth), asked = (tmp_path / name for name in "1234"), tmp_path / "asked"
    first.touch()
    handle = serve.run(Patient.bind("first", first), name="patient", route_prefix=None)
    assert replicas() is Replicas.RUN
    answer = handle.remote(asked, second)
    until(asked.exists)
    asked.unlink()

    with ThreadPoolExecutor(1) as aside:  # another version in its place
        aside.submit(serve.run, Patient.bind("second", third), name="patient", route_prefix=None)
        until(lambda: replicas() is Replicas.END)
        second.touch()
        assert answer.result(timeout_s=300) == "first"
        until(lambda: replicas() is Replicas.NONE)
        third.touch()
    assert replicas() is Replicas.RUN

    answer = handle.remote(asked, fourth)
    until(asked.exists)
    serve.delete("patient", _blocking=False)
    until(lambda: replicas() is Replicas.END)
    fourth.touch()
    assert answer.result(timeout_s=300) == "second"
    until(lambda: replicas() is Replicas.NONE)
