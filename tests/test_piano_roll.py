"""Laws of what piano rolls are made of, look like and sound like."""

import imageio.v3 as imageio
import numpy as np
import pytest

from worldmodel.experiments.data.readers.piano_roll import (
    LOUDEST,
    draw_rolls,
    statistics,
    synthesise,
    total_variation,
)
from worldmodel.run_folder import RunError

RATE = 8000


def random_rolls(seed=0):
    random = np.random.default_rng(seed)
    return [random.random((steps, 88)) < 0.05 for steps in (7, 40, 1)]


def test_statistics_count_every_note_of_every_frame():
    rolls = random_rolls()
    pitches = [21 + column for roll in rolls for _, column in np.argwhere(roll)]
    found = statistics(rolls, 21)
    assert found.notes_a_frame == pytest.approx(len(pitches) / 48)
    shares = [sum(pitch % 12 == c for pitch in pitches) / len(pitches) for c in range(12)]
    assert found.pitch_classes == pytest.approx(shares)


def test_silence_has_no_pitch_classes():
    found = statistics([np.zeros((3, 88), bool)], 21)
    assert found.notes_a_frame == 0
    assert np.isnan(found.pitch_classes).all()


def test_total_variation_is_the_largest_difference_of_any_event():
    p, q = np.random.default_rng(0).dirichlet(np.ones(8), 2)
    events = np.arange(2**8)[:, None] >> np.arange(8) & 1  # all subsets
    assert total_variation(p, q) == pytest.approx(np.abs(events @ (p - q)).max())
    assert total_variation(p, p) == 0


def read_picture(path):
    return imageio.imread(path)[..., :3].astype(int)


def test_a_picture_shows_notes_where_they_sound(tmp_path):
    pytest.importorskip("matplotlib")
    roll = np.zeros((64, 88), bool)
    roll[:32, 50], roll[32:, 40] = True, True  # first high, then low
    draw_rolls(tmp_path / "a.png", [("a", roll)], 21, 4)
    picture = read_picture(tmp_path / "a.png")
    blue = (picture[..., 2] - picture[..., 0] > 80).nonzero()
    early, late = np.quantile(blue[1], [0.4, 0.6])
    assert blue[0][blue[1] < early].max() < blue[0][blue[1] > late].min()


def test_a_picture_grows_with_what_it_shows(tmp_path):
    pytest.importorskip("matplotlib")
    rolls = [(str(number), roll) for number, roll in enumerate(random_rolls())]
    heights = []
    for count in (1, 3):
        draw_rolls(tmp_path / "a.png", rolls[-count:], 21, 4)
        heights.append(len(read_picture(tmp_path / "a.png")))
    assert heights[1] > 2 * heights[0]
    draw_rolls(tmp_path / "a.png", [("prune_inactive", np.zeros((5, 88), bool))], 21, 4)


def test_without_matplotlib_a_sentence_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.experiments.runs.pictures.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"worldmodel-gym\[plots\]"):
        draw_rolls(tmp_path / "a.png", [("a", np.zeros((5, 88), bool))], 21, 4)


@pytest.mark.parametrize("pitch", [45, 69, 90])
def test_a_note_has_its_frequency(pitch):
    roll = np.zeros((8, 88), bool)
    roll[:, pitch - 21] = True
    sound = synthesise(roll, 21, 4, RATE)
    spectrum = np.abs(np.fft.rfft(sound, 2**17))
    loudest = np.fft.rfftfreq(2**17, 1 / RATE)[spectrum.argmax()]
    assert loudest == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=0.005)


def test_sound_is_as_long_as_the_music_and_never_clipped():
    for roll in [*random_rolls(), np.ones((4, 88), bool), np.zeros((4, 88), bool)]:
        sound = synthesise(roll, 21, 2, RATE, tempo=90)
        assert sound.dtype == np.float32
        assert len(sound) / RATE == pytest.approx(len(roll) / 2 * 60 / 90, abs=0.1)
        assert np.abs(sound).max() <= LOUDEST + 1e-6
        assert roll.any() == sound.any()


def test_notes_begin_and_end_without_a_click():
    """A note that began or ended at once would jump by as much as it is loud."""
    roll = np.zeros((12, 88), bool)
    roll[3:9, 24] = True
    sound = synthesise(roll, 21, 4, 48_000)
    assert np.abs(np.diff(sound)).max() < 0.1 * np.abs(sound).max()
    assert sound[0] == sound[-1] == 0
    begin = round(3 / 4 * 0.5 * 48_000)
    assert not sound[:begin].any()


def test_pitches_above_what_the_rate_holds_are_silent():
    roll = np.zeros((4, 88), bool)
    roll[:, -1] = True  # 4,186 Hz
    assert not synthesise(roll, 21, 4, RATE).any()
    assert synthesise(roll, 21, 4, 2 * RATE).any()
