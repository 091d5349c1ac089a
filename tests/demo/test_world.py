"""The rendered world: what a seed fixes, what can be asked of it, and that training never sees a film to measure on."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.demo import wording, world
from pipeline.demo.drawing import draw
from pipeline.demo.training import bank, pictures
from pipeline.demo.world import FIRST_TRAINING_SEED, FPS, film
from tests.benchmarks import demo_model, verifier_quality

FILMS = [film(seed) for seed in range(40)]


def test_a_seed_gives_the_same_film_and_the_same_pixels() -> None:
    assert film(7) == film(7) != film(8)
    assert draw(film(7), 31.0).tobytes() == draw(film(7), 31.0).tobytes()


def test_a_film_lasts_two_to_five_minutes_and_its_scenes_some_seconds() -> None:
    for shown in FILMS:
        assert 120 <= shown.duration_s <= 300
        assert all(4.9 < scene.end_s - scene.start_s < 9.1 for scene in shown.scenes)
        assert all(a.end_s == b.start_s and a.background != b.background for a, b in pairwise(shown.scenes))


def test_every_film_can_be_asked_about_signs_of_different_colours_and_one_lamp() -> None:
    for shown in FILMS:
        colours = [scene.sign.colour for scene in shown.scenes if scene.sign]
        assert len(colours) == len(set(colours)) == 6
        assert sum(scene.lamp is not None for scene in shown.scenes) == 1


def test_words_and_flashes_fall_inside_their_scene_and_on_whole_frames() -> None:
    for scene in (scene for shown in FILMS for scene in shown.scenes):
        spans = [scene.sign.shown] if scene.sign else list(scene.lamp.flashes) if scene.lamp else []
        for start, end in spans:
            assert scene.start_s < start < end < scene.end_s
            assert start * FPS == pytest.approx(round(start * FPS)) and end * FPS == pytest.approx(round(end * FPS))


def test_shapes_stay_inside_the_picture_and_off_the_floor() -> None:
    for shape in (scene.shape for shown in FILMS for scene in shown.scenes):
        for x, y in (shape.start, shape.end):
            assert shape.radius < x < world.WIDTH - shape.radius
            assert shape.radius < y < world.FLOOR_Y - shape.radius


def test_a_words_near_misses_have_its_length() -> None:
    assert len(set(world.WORDS)) == len(world.WORDS) == 64
    assert {len(word) for word in world.WORDS} == {4}
    for family in world.FAMILIES:
        for word in family:
            others = [sum(a != b for a, b in zip(word, other, strict=True)) for other in family if other != word]
            assert min(others) == 1 and max(others) <= 3


def test_a_description_is_told_from_that_of_every_other_scene_nearby() -> None:
    assert wording.describe(FILMS[0].scenes[0]).startswith("A ")
    for shown in FILMS:
        assert all(wording.describe(a) != wording.describe(b) for a, b in pairwise(shown.scenes))


def test_a_caption_of_several_scenes_names_each_sign_and_lamp_once_and_in_one_order() -> None:
    scenes = FILMS[0].scenes
    assert wording.summary(scenes[:1]) == wording.describe(scenes[0])
    signs = [scene for scene in scenes if scene.sign]
    plain = [scene for scene in scenes if not scene.sign and not scene.lamp]
    held = sorted({scene.sign.colour for scene in signs if scene.sign}, key=world.COLOURS.index)
    articles = ["an" if colour == "orange" else "a" for colour in held]
    named = ", ".join(f"{article} {colour} sign" for article, colour in zip(articles, held, strict=True))
    assert wording.summary(signs) == wording.summary(signs[::-1]) == f"Several scenes: {named}."
    assert wording.summary(plain[:2]) == "Several scenes."
    assert wording.summary(scenes).endswith(", a lamp.")


def test_training_pictures_come_from_seeds_that_no_film_has() -> None:
    assert max(demo_model.FIRST_SEED + 25, verifier_quality.FIRST_SEED + 1000) < FIRST_TRAINING_SEED
    assert bank.FIRST_SEED >= FIRST_TRAINING_SEED
    shown = {sign_of(shape_scene) for shape_scene in (scene for f in FILMS for scene in f.scenes)}
    trained = {sign_of(item.scene) for item in bank.draw(bank.FIRST_SEED)[1]}
    assert not shown & trained


def sign_of(scene: world.Scene) -> tuple[object, ...]:
    return scene.tint, scene.shape.start, scene.shape.end


def test_a_crowded_picture_is_labelled_where_its_signs_are() -> None:
    rng = np.random.default_rng(FIRST_TRAINING_SEED)
    crowd = [pictures.crowded(rng) for _ in range(20)]
    for picture in crowd:
        assert picture.pixels.shape == (256, 256, 3)
        boards, words = picture.labels["board"] > 0, picture.labels["word"] > 0
        assert (boards == words).all()
        assert all((labels < pictures.LABELS[name]).all() for name, labels in picture.labels.items())
    assert any((picture.labels["word"] == pictures.ILLEGIBLE).any() for picture in crowd)
