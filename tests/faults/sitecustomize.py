"""On PYTHONPATH of a test: a worker process dies when it begins the attempt that ZOOMTRAIL_TEST_DIES_ON names."""

import os
import signal

if victim := os.environ.get("ZOOMTRAIL_TEST_DIES_ON"):
    from pipeline.stages.teach import TeachStage

    attempt = TeachStage._attempt

    async def dies(self, planned, tree, videos):  # type: ignore[no-untyped-def]
        if planned.trajectory_id == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return await attempt(self, planned, tree, videos)

    TeachStage._attempt = dies  # type: ignore[method-assign]
