"""Seeded faults, each of which a named test must catch. Run by hand: ``python tests/mutants.py [WORD]``.

Copies the project to a temporary directory, applies one fault at a time, runs the test that should notice, and
prints a table. Exits 1 when a fault survives. Not run in CI, for it takes some minutes; ``tests/test_mutants.py``
holds that each fault still finds its line and its test.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 90


@dataclass(frozen=True)
class Mutant:
    """A seeded fault.

    Attributes:
        name: What is wrong with it.
        module: The file that is changed, from the root of the project.
        test: The test that catches it: its file, from the root of the project, ``::``, a part of its name.
        changes: What is replaced by what, one after the other; each is found exactly once.
    """

    name: str
    module: str
    test: str
    changes: tuple[tuple[str, str], ...]

    def applied(self, source: str) -> str:
        """The source with the fault in it.

        Raises:
            ValueError: What is to be replaced does not stand there exactly once.
        """
        for old, new in self.changes:
            if source.count(old) != 1:
                raise ValueError(f"{self.module} has this {source.count(old)} times: {old.strip()!r}")
            source = source.replace(old, new)
        return source


def mutant(name: str, module: str, test: str, *changes: tuple[str, str]) -> Mutant:
    return Mutant(name, module, test, changes)


LOCK = (
    mutant(
        "hand-over dropped on cancel", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_a_hand_over_that_races_with",
        ("        if lease.granted:\n            self.release(lease)", "        if lease.granted:\n            pass"),
    ),
    mutant(
        "cancelled waiter left in line", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_a_cancelled_waiter_is_forgotten",
        ("            self._waiters.remove(lease)\n            self._on_change()", "            self._on_change()"),
    ),
    mutant(
        "released while its job runs", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_the_lock_stays_held_until_the_job",
        ("if lease.open or lease.busy or", "if lease.open or"),
    ),
    mutant(
        "priority ignored", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_a_waiting_query_goes_before",
        ("return (lease.priority, lease.order, lease.seq)", "return (0, lease.order, lease.seq)"),
    ),
    mutant(
        "no aging", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_an_index_waiter_counts_as_a_tool_call",
        ("if lease.priority is Priority.INDEX and", "if False and"),
    ),
    mutant(
        "last come, first served", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_within_a_class_the_first_to_come",
        ("return (lease.priority, lease.order, lease.seq)", "return (lease.priority, lease.order, -lease.seq)"),
    ),
    mutant(
        "notified instead of handed over", "indexer/slot/priority_lock.py",
        "tests/indexer/slot/test_priority_lock.py::test_a_newcomer_never_overtakes",
        ("        self._grant(lease)  # direct", "        lease.event.set()  # direct"),
        ("            raise Dismissed\n        return lease", "            raise Dismissed\n"
         "        if not lease.granted:\n            self._grant(lease)\n        return lease"),
    ),
)  # fmt: skip

POLICY = (
    mutant(
        "indexing loads before a tool call", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_an_empty_slot_loads_for_the_tool_call",
        ("    if tools:\n        return Load", "    if tools and not index:\n        return Load"),
    ),
    mutant(
        "passing without end in time", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_a_passed_tool_call_goes_by_age_after_five",
        ("now - rival.since < rules.coalesce_s and", "True and"),
    ),
    mutant(
        "passing without end in number", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_a_passed_tool_call_goes_by_age_after_eight",
        (" and view.skipped_count < rules.coalesce_grants", ""),
    ),
    mutant(
        "warm window ignored", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_indexing_of_another_model_waits_for_the_end",
        ("        if now >= warm_until:\n            return Unload(\"swap\")",
         "        if True:\n            return Unload(\"swap\")"),
    ),
    mutant(
        "no starvation cap", "indexer/slot/policy.py",
        "tests/indexer/slot/test_slot_soak.py::test_indexing_of_another_model_gets_its_share",
        ("if not rules.starvation_cap or view.blocked_since", "if True or view.blocked_since"),
    ),
    mutant(
        "owed micro-batch forgotten", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_what_came_in_by_the_cap_gets_its_micro_batch",
        ("if view.reserved_for == loaded and any", "if False and any"),
    ),
    mutant(
        "folder order ignored", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_an_empty_slot_loads_for_the_oldest_folder",
        ("key=lambda t: (t.folder_rank, t.number)", "key=lambda t: (t.number,)"),
    ),
    mutant(
        "wanted load dropped", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_a_load_is_dropped_only_when",
        ("return any(t.priority is Priority.TOOL or not mine for t in others)", "return bool(others)"),
    ),
    mutant(
        "lingering shortens warmth", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_lingering_does_not_shorten",
        ("stay = max(warm_until,", "stay = min(warm_until,"),
    ),
    mutant(
        "tool call does not pre-empt", "indexer/slot/policy.py",
        "tests/indexer/slot/test_policy.py::test_indexing_yields_to_any_tool_call",
        ("        return True\n    return _starved_key", "        return False\n    return _starved_key"),
    ),
)  # fmt: skip

SLOT = (
    mutant(
        "indexing re-arms the warm window", "indexer/slot/slot.py",
        "tests/indexer/slot/test_slot_soak.py::test_indexing_in_the_warm_window_neither",
        ("            if lease.priority is Priority.TOOL:\n                loaded.warm_until",
         "            if True:\n                loaded.warm_until"),
    ),
    mutant(
        "an error does not fail fast", "indexer/slot/slot.py",
        "tests/indexer/slot/test_slot_faults.py::test_a_retryable_failure_is_tried_three_times",
        ("and (tool or breaker.open):", "and breaker.open:"),
    ),
    mutant(
        "no limit of waiting calls", "indexer/slot/slot.py",
        "tests/indexer/slot/test_slot_faults.py::test_more_than_sixty_four",
        ("if tool and waiting >= self._limits.waiting_tools:", "if False:"),
    ),
    mutant(
        "progress does not extend the limit", "indexer/slot/slot_state.py",
        "tests/indexer/slot/test_slot_faults.py::test_progress_extends_the_limit",
        ("self.stage, self.share, self.last_progress_at = stage, share, now", "self.stage, self.share = stage, share"),
    ),
    mutant(
        "the import counts", "indexer/slot/slot_state.py",
        "tests/indexer/slot/test_slot_faults.py::test_the_first_import_of_a_runtime",
        ("            self.started_at = now  # the import does not count", "            pass"),
    ),
    mutant(
        "an orphan frees the slot", "indexer/slot/scheduler.py",
        "tests/indexer/slot/test_slot_faults.py::test_while_an_orphan_holds_the_slot",
        ("        blocked = failure(\"orphaned_load\"",
         "        self._state.load = None\n        self._lock.job_ended(load.lease)\n"
         "        self._lock.release(load.lease)\n        blocked = failure(\"orphaned_load\""),
    ),
    mutant(
        "one model's failure sends all away", "indexer/slot/scheduler.py",
        "tests/indexer/slot/test_slot_faults.py::test_the_failure_of_one_model",
        ("request.key == load.key and (tool or breaker.open)", "True"),
    ),
    mutant(
        "lasting failures are retried", "indexer/slot/failure.py",
        "tests/indexer/slot/test_slot_faults.py::test_a_failure_that_lasts_is_tried_once",
        ("over = not failure.retryable or attempt >= ATTEMPTS", "over = attempt >= ATTEMPTS"),
    ),
    mutant(
        "no pause between attempts", "indexer/slot/failure.py",
        "tests/indexer/slot/test_slot_faults.py::test_a_retryable_failure_is_tried_three_times",
        ("max(LOAD_RETRY_S, failure.retry_after or 0.0)", "0.0"),
    ),
    mutant(
        "the watchdog sleeps", "indexer/slot/scheduler.py",
        "tests/indexer/slot/test_slot_faults.py::test_a_lease_without_a_job_is_revoked",
        ("            self.lock.release(owner)", "            pass"),
    ),
    mutant(
        "a job is not counted as using the lock", "indexer/slot/lease.py",
        "tests/indexer/slot/test_slot_races.py::test_a_caller_cancelled_during_its_job",
        ("        self._lock.job_started(self._lease)\n", ""),
        ("            self._lock.job_ended(self._lease)\n", ""),
    ),
    mutant(
        "no time for the first job", "indexer/slot/lease.py",
        "tests/indexer/slot/test_slot_soak.py::test_an_indexer_that_asks_before",
        ("if not self._has_run and", "if False and"),
    ),
    mutant(
        "an owed turn outlives its owner", "indexer/slot/slot_state.py",
        "tests/indexer/slot/test_slot_soak.py::test_a_turn_owed_to_an_indexer",
        ("        state.reserved_for = None  # its request", "        pass  # its request"),
    ),
    mutant(
        "halves in the wrong order", "indexer/slot/lease.py",
        "tests/indexer/slot/test_slot_races.py::test_a_batch_that_does_not_fit",
        ("texts[:middle]", "texts[-middle:]"),
    ),
    mutant(
        "a kept loan keeps the model", "indexer/slot/lease.py",
        "tests/indexer/slot/test_memory.py::test_a_loan_that_a_caller_keeps",
        ("loaded, self._loaded = self._loaded, None", "loaded = self._loaded"),
        ("        self._call = self._embedder = None\n", ""),
        ("        del job\n", "        self._job = job\n"),
    ),
    mutant(
        "unload keeps its reference", "indexer/slot/thread.py",
        "tests/indexer/slot/test_memory.py::test_the_steps_of_an_unload",
        ("    box.clear()\n", ""),
    ),
    mutant(
        "heap not trimmed", "indexer/slot/thread.py",
        "tests/indexer/slot/test_memory.py::test_the_steps_of_an_unload",
        ("    release_steps.trim()\n", ""),
    ),
    mutant(
        "a dead thread answers nobody", "indexer/slot/thread.py",
        "tests/indexer/slot/test_thread.py::test_a_dying_thread_fails_every_pending_job",
        ("            self._fail_pending(\"thread_died\"", "            str(\"thread_died\""),
    ),
)  # fmt: skip

PREPARE = (
    mutant(
        "pickles are run", "indexer/models/convert.py",
        "tests/indexer/models/test_pickled.py::test_a_hostile_pickle_is_refused",
        ("weights_only=True", "weights_only=False"),
    ),
    mutant(
        "what was written is not compared", "indexer/models/convert.py",
        "tests/indexer/models/test_pickled.py::test_what_comes_back_otherwise",
        ("if not same or not all(", "if not same and not all("),
    ),
    mutant(
        "tied tensors share their memory", "indexer/models/convert.py",
        "tests/indexer/models/test_pickled.py::test_tensors_that_share_memory",
        ("            plain = plain.clone()", "            pass"),
    ),
    mutant(
        "modules outside of the model are followed", "indexer/models/locate.py",
        "tests/indexer/models/test_pickled.py::test_names_that_lead_out_of_the_model",
        (' and ".." not in Path(path).parts)', ")"),
    ),
    mutant(
        "unfinished work stays", "indexer/models/prepared.py",
        "tests/indexer/models/test_prepare.py::test_a_workspace_takes_no_leftovers",
        ("    finally:\n        shutil.rmtree(part, ignore_errors=True)", "    finally:\n        pass"),
    ),
    mutant(
        "a refused form is made again", "indexer/models/prepared.py",
        "tests/indexer/models/test_convert.py::test_a_refusal_is_kept_alone",
        ("return torch_on_cpu and read_verdict(", "return torch_on_cpu and find_prepared("),
    ),
    mutant(
        "undefined numbers pass", "indexer/models/convert.py",
        "tests/indexer/models/test_convert.py::test_undefined_numbers",
        ("if not cosine >= COSINE:", "if cosine < COSINE:"),
        ("elif not spread <= INVARIANCE:", "elif spread > INVARIANCE:"),
    ),
    mutant(
        "two prepare at once", "indexer/models/prepare.py",
        "tests/indexer/models/test_prepare.py::test_two_processes_never",
        ("    try:\n        _lock(fd)", "    try:\n        pass"),
    ),
    mutant(
        "the user's own files are deleted", "indexer/models/prepare.py",
        "tests/indexer/models/test_prepare.py::test_what_was_made_and_is_damaged",
        ('    if Path(spec.directory).parent != request.directory / "models":', "    if False:"),
        ("    except SlotUnavailable:\n        shutil", "    finally:\n        shutil"),
    ),
)  # fmt: skip


LINES, EVERY = "mcp_server/protocol/lines.py", "tests/mcp_server/protocol/test_every_request.py"
HTTP, HTTP_TESTS = "mcp_server/processes/http_sessions.py", "tests/mcp_server/processes/test_http_sessions.py"
ANSWERS = (
    mutant(
        "errors lose the id", LINES, f"{EVERY}::test_each_id_is_answered_once",
        ('"id": identity if _can_be_answered(identity) else None', '"id": None'),
    ),
    mutant(
        "half characters go on", LINES, "tests/mcp_server/protocol/test_lines.py::test_text_that_is_no_unicode",
        ("mend = repaired if _HALF_ESCAPE.search(line) else _unchanged", "mend = _unchanged"),
    ),
    mutant(
        "malformed parameters are dropped", LINES, f"{EVERY}::test_each_id_is_answered_once",
        ('return None, problem if "id" in document else None', "return None, None"),
    ),
    mutant(
        "a result that is no text ends the connection", "mcp_server/protocol/transport.py",
        f"{EVERY}::test_an_answer_that_is_no_text",
        ("    except PydanticSerializationError:", "    except KeyError:"),
    ),
    mutant(
        "any id that looks like ours is dropped", "mcp_server/processes/relay_calls.py",
        "tests/mcp_server/processes/test_relay_calls.py::test_no_id_of_a_client_is_taken",
        ('f"folder-mcp/{os.urandom(8).hex()}/"', '"folder-mcp/"'),
    ),
    mutant(
        "the newest session ends", HTTP, f"{HTTP_TESTS}::test_the_session_used_longest_ago",
        ("                self._sessions.move_to_end(session_id)\n", "                pass\n"),
    ),
    mutant(
        "a session with a call ends", HTTP, f"{HTTP_TESTS}::test_a_session_with_a_call_in_flight",
        ("for name in theirs if not self._sessions[name].in_flight), None)", "for name in theirs), None)"),
    ),
    mutant(
        "a session is another user's too", HTTP, f"{HTTP_TESTS}::test_a_session_is_neither_told_about",
        ("and _principal(scope) == _principal(session.scope) else None", "else None"),
    ),
    mutant(
        "many sessions of one user end those of others", HTTP, f"{HTTP_TESTS}::test_a_user_who_opens_many",
        ("in self._sessions.items() if counts[_principal(each.scope)] == most]", "in self._sessions.items()]"),
    ),
    mutant(
        "an id in use is served", HTTP, f"{HTTP_TESTS}::test_an_id_that_is_in_use",
        ("str(identity) in session.in_flight", "not identity"),
    ),
    mutant(
        "errors of the SDK keep the id null", HTTP, f"{HTTP_TESTS}::test_errors_of_the_sdk",
        ("self.status >= HTTPStatus.BAD_REQUEST and", "self.status < 0 and"),
    ),
    mutant(
        "a slow body is waited for", HTTP, f"{HTTP_TESTS}::test_a_body_that_comes_too_slowly",
        ("with anyio.move_on_after(BODY_S):", "with anyio.move_on_after(BODY_S * 100):"),
    ),
    mutant(
        "requests ahead are kept", "mcp_server/processes/http_connection.py", f"{HTTP_TESTS}::test_requests_ahead",
        ("len(ahead) + len(data) > MAX_AHEAD", "len(ahead) + len(data) < 0"),
    ),
    mutant(
        "a client that reads nothing is waited for", "mcp_server/processes/http_connection.py",
        f"{HTTP_TESTS}::test_a_client_that_reads_nothing",
        ("self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)", "pass"),
    ),
)  # fmt: skip

MUTANTS = (*LOCK, *POLICY, *SLOT, *PREPARE, *ANSWERS)


def caught(change: Mutant, copy: Path) -> tuple[str, float]:
    """Apply a fault to the copy, run its test, undo it; what happened and seconds."""
    path = copy / change.module
    original = path.read_text(encoding="utf-8")
    try:
        path.write_text(change.applied(original), encoding="utf-8")
    except ValueError as error:
        return f"NOT APPLIED ({error})", 0.0
    file, name = change.test.split("::")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "20"]
    command += [file, "-k", name]
    began = time.perf_counter()
    try:
        code = subprocess.run(command, cwd=copy, capture_output=True, timeout=LIMIT_S, check=False).returncode
        said = {0: "SURVIVED", 1: "caught", 5: "NO SUCH TEST"}.get(code, f"pytest exit {code}")
    except subprocess.TimeoutExpired:
        said = "caught (hangs)"
    finally:
        path.write_text(original, encoding="utf-8")
    return said, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("word", nargs="?", default="", help="only faults whose name, module or test contains it")
    word = parser.parse_args().word
    chosen = [m for m in MUTANTS if word in m.name or word in m.module or word in m.test]
    survivors = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for part in ("indexer", "mcp_server", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for change in chosen:
            said, seconds = caught(change, copy)
            survivors += not said.startswith("caught")
            sys.stdout.write(f"{said:16} {seconds:5.1f} s  {change.name:46} {change.test}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survivors} of {len(chosen)} caught\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
