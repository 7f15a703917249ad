"""The model thread itself, in real time: one thread, answers on the loop, deaths survived."""

import threading
import time

import anyio
import pytest

from indexer.slot.failure import Failure
from indexer.slot.thread import ModelThread


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def result_of(thread, job):
    done, answers = anyio.Event(), []

    def finished(answer):
        answers.append((answer, threading.get_ident()))
        done.set()

    thread.submit(job, finished)
    with anyio.fail_after(5):
        await done.wait()
    answer, where = answers[0]
    assert where == threading.get_ident(), "completions arrive on the loop"
    return answer


async def test_every_job_runs_on_the_same_daemon_thread():
    thread = ModelThread("model-under-test")
    idents = {await result_of(thread, threading.get_ident) for _ in range(5)}
    assert idents == {thread.ident} and thread.ident != threading.get_ident()
    assert await result_of(thread, lambda: threading.current_thread().daemon)
    thread.close()


async def test_a_failing_job_answers_with_a_named_failure_and_the_next_one_runs():
    thread = ModelThread()

    def fail():
        raise MemoryError

    answer = await result_of(thread, fail)
    assert isinstance(answer, Failure) and answer.code == "out_of_memory_host"
    assert await result_of(thread, lambda: 7) == 7
    thread.close()


async def test_a_dying_thread_fails_every_pending_job_and_the_next_job_gets_a_new_thread():
    thread = ModelThread()
    first = await result_of(thread, threading.get_ident)
    answers, gate, done = [], threading.Event(), anyio.Event()

    def die():
        gate.wait(5)
        raise SystemExit  # what a library that calls sys.exit() does

    def finished(answer):
        answers.append(answer.code)
        if len(answers) == 3:
            done.set()

    thread.submit(die, finished)
    thread.submit(lambda: 1, finished)
    thread.submit(lambda: 2, finished)
    gate.set()
    with anyio.fail_after(5):
        await done.wait()
    assert answers == ["thread_died"] * 3
    assert await result_of(thread, threading.get_ident) != first or thread.ident is not None
    thread.close()


async def test_posts_arrive_on_the_loop_in_order_before_the_result():
    thread, seen = ModelThread(), []

    def job():
        for n in range(100):
            thread.post(lambda n=n: seen.append((n, threading.get_ident(), anyio.current_time())))

    await result_of(thread, job)
    assert [n for n, _, _ in seen] == list(range(100))
    assert {where for _, where, _ in seen} == {threading.get_ident()}
    thread.close()


async def test_closing_fails_what_is_pending_and_refuses_what_comes_later():
    thread, answers = ModelThread(), []
    gate = threading.Event()
    thread.submit(lambda: gate.wait(5), lambda answer: answers.append(answer.code))
    thread.close()
    assert answers == ["stopping"]
    assert (await result_of(thread, lambda: 1)).code == "stopping"
    gate.set()


async def test_the_thread_keeps_no_reference_to_a_job_or_its_result():
    import gc
    import weakref

    class Big:
        pass

    thread, refs = ModelThread(), []

    def job():
        big = Big()
        refs.append(weakref.ref(big))
        return big

    assert isinstance(await result_of(thread, job), Big)
    await result_of(thread, lambda: None)  # the frame of the first job is certainly left now
    gc.collect()
    assert refs[0]() is None
    thread.close()


def test_a_job_that_outlives_the_loop_disturbs_nobody():
    gate, ended = threading.Event(), threading.Event()

    async def main():
        thread = ModelThread()

        def job():
            gate.wait(5)
            thread.post(lambda: None)
            ended.set()

        thread.submit(job, lambda answer: None)
        thread.close()

    began = time.perf_counter()
    anyio.run(main)
    assert time.perf_counter() - began < 2
    gate.set()
    assert ended.wait(5)
