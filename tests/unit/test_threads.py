from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from unittest import mock

import pytest

from meshlet.threads import in_thread


async def test_what_the_work_returns_and_raises() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)
    assert await in_thread(threading.current_thread) is not threading.main_thread()


async def test_nobody_waits_for_it_once_cancelled() -> None:
    go_on = threading.Event()
    task = asyncio.create_task(in_thread(go_on.wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not go_on.is_set()
    go_on.set()  # its outcome is nobody's


async def test_no_thread_is_a_failure_of_the_machine() -> None:
    with (
        mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")),
        pytest.raises(BlockingIOError),
    ):
        await in_thread(int)


def test_neither_loop_nor_process_wait_for_what_never_ends() -> None:
    code = """
import asyncio, threading
from meshlet.threads import in_thread

async def main():
    try:
        async with asyncio.timeout(0.01):
            await in_thread(threading.Event().wait)
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout == "given up\n"
