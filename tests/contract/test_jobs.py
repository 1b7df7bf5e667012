"""`ports.JobRepository`, as every adapter keeps it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.domain import Job
from shared.errors import NotFound
from shared.ports import JobRepository
from tests.contract.racing import race

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
JOB = Job("j1", "fit", "queued", NOW, NOW)


def test_a_job_is_kept_and_replaced(jobs: JobRepository) -> None:
    jobs.put_job(JOB)
    assert jobs.get_job("j1") == JOB
    done = replace(JOB, status="succeeded", progress=1.0, result={"people": 3, "model_id": "m", "nested": {"a": [1]}})
    jobs.put_job(done)
    assert jobs.get_job("j1") == done


def test_an_error_is_kept(jobs: JobRepository) -> None:
    jobs.put_job(replace(JOB, status="failed", error="busy: grüße"))
    assert jobs.get_job("j1").error == "busy: grüße"


def test_a_missing_job_is_not_found(jobs: JobRepository) -> None:
    with pytest.raises(NotFound):
        jobs.get_job("j1")


def test_a_lease_is_held_by_one(jobs: JobRepository) -> None:
    assert jobs.acquire_lease("train", "a", ttl_s=60) is True
    assert jobs.acquire_lease("train", "b", ttl_s=60) is False
    assert jobs.acquire_lease("train", "a", ttl_s=60) is True
    assert jobs.acquire_lease("other", "b", ttl_s=60) is True


def test_a_released_lease_is_free(jobs: JobRepository) -> None:
    jobs.acquire_lease("train", "a", ttl_s=60)
    assert jobs.release_lease("train", "b") is False
    assert jobs.acquire_lease("train", "b", ttl_s=60) is False
    assert jobs.release_lease("train", "a") is True
    assert jobs.release_lease("train", "a") is False
    assert jobs.acquire_lease("train", "b", ttl_s=60) is True


def test_anybody_s_lease_can_be_released(jobs: JobRepository) -> None:
    assert jobs.release_lease("train") is False
    jobs.acquire_lease("train", "a", ttl_s=60)
    assert jobs.release_lease("train") is True
    assert jobs.acquire_lease("train", "b", ttl_s=60) is True


def test_a_lease_runs_out(backend) -> None:
    assert backend.jobs.acquire_lease("train", "a", ttl_s=backend.tick_s)
    time.sleep(backend.tick_s * 1.5)
    assert backend.jobs.release_lease("train", "a") is False
    assert backend.jobs.acquire_lease("train", "b", ttl_s=60) is True
    assert backend.jobs.acquire_lease("train", "a", ttl_s=60) is False


def test_holding_on_prolongs_a_lease(backend) -> None:
    backend.jobs.acquire_lease("train", "a", ttl_s=backend.tick_s)
    backend.jobs.acquire_lease("train", "a", ttl_s=60)
    time.sleep(backend.tick_s * 1.5)
    assert backend.jobs.acquire_lease("train", "b", ttl_s=60) is False


def test_of_many_one_gets_the_lease(jobs: JobRepository) -> None:
    assert race(8, lambda number: jobs.acquire_lease("train", f"owner{number}", ttl_s=60)).count(True) == 1


def test_another_connection_sees_jobs_and_leases(backend) -> None:
    other = backend.reopened()
    backend.jobs.put_job(JOB)
    backend.jobs.acquire_lease("train", "a", ttl_s=60)
    assert other.jobs.get_job("j1") == JOB
    assert other.jobs.acquire_lease("train", "b", ttl_s=60) is False
