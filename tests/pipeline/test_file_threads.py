"""Work on files beside an event loop: done once, told to the one who waits, whatever others do."""

import asyncio
import threading
import time

import pytest

from pipeline.models.file_threads import FileThreads


def test_each_gets_the_result_or_the_error_of_his_own_work() -> None:
    async def scene() -> None:
        threads = FileThreads(4)
        found = await asyncio.gather(*(threads.run(lambda n=n: n * n) for n in range(2000)))
        assert found == [n * n for n in range(2000)]
        broken, whole = await asyncio.gather(
            threads.run(lambda: 1 // 0), threads.run(lambda: 1), return_exceptions=True
        )
        assert isinstance(broken, ZeroDivisionError) and whole == 1
        threads.close()

    asyncio.run(scene())


def test_slow_work_is_done_at_once_and_the_loop_goes_on() -> None:
    async def scene() -> None:
        threads, began = FileThreads(4), time.monotonic()
        names = asyncio.gather(*(threads.run(lambda: (time.sleep(0.3), threading.get_ident())[1]) for _ in range(4)))
        await asyncio.sleep(0.05)
        assert not names.done()
        assert len(set(await names)) == 4 and time.monotonic() - began < 0.9
        threads.close()

    asyncio.run(scene())


def test_one_who_no_longer_waits_harms_no_other_and_his_work_is_done() -> None:
    async def scene() -> list[int]:
        threads, done = FileThreads(1), list[int]()
        impatient = asyncio.ensure_future(threads.run(lambda: (time.sleep(0.1), done.append(1))))
        await asyncio.sleep(0.02)
        impatient.cancel()
        await threads.run(lambda: done.append(2))
        with pytest.raises(asyncio.CancelledError):
            await impatient
        threads.close()
        return done

    assert asyncio.run(scene()) == [1, 2]
