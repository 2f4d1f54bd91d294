"""Tests the settings of each of several worker processes."""

from pathlib import Path

import pytest

from ferserve_server.app.workers import settings_of_one_worker
from ferserve_server.config.settings import Settings


@pytest.mark.parametrize(
    ("threads", "processes", "expected"),
    [(2, 2, 2), (16, 2, 16), (16, 4, 8), (16, 16, 2), (1, 8, 1), (8, 3, 5)],
)
def test_each_front_has_twice_its_share_of_the_threads_for_pictures_and_never_more_than_all(
    threads, processes, expected
):
    whole = Settings.of(model_repo=Path("models"), processes=processes, vision_threads=threads)

    assert settings_of_one_worker(whole).detection.vision_threads == expected


def test_the_queue_for_pictures_is_divided_but_always_takes_one_request():
    whole = Settings.of(model_repo=Path("models"), processes=4, max_queue_images=256, max_images_per_request=100)

    own = settings_of_one_worker(whole)

    assert own.limits.max_queue_images == 100
