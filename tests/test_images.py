"""Laws of images on disk: what is drawn is what lies there, as often as it is told."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from worldmodel.experiments.images.files import Prepared, open_images
from worldmodel.image_batches import Batches, binarise, common_shape, get_random_samples
from worldmodel.run_folder import RunError

SHAPE = (9, 8, 3)


def numbered(number, begin=0, shape=SHAPE):
    """Images whose first two pixel values say which they are, uint8 [N, H, W, C]."""
    images = np.random.default_rng(begin).integers(256, size=(number, *shape), dtype=np.uint8)
    names = begin + np.arange(number)
    images.reshape(number, -1)[:, :2] = np.stack([names // 256, names % 256], -1)
    return images


def names_of(images):
    first, second = np.asarray(images).reshape(len(images), -1)[:, :2].T.astype(int)
    return 256 * first + second


def everything(images):
    return images.read(np.arange(len(images)))


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed", "png", "old npy"])
def test_what_is_read_is_what_lies_there(tmp_path, kind):
    expected = numbered(7)
    if kind == "npy":
        np.save(tmp_path / "a.npy", expected)
    elif kind == "old npy":
        with open(tmp_path / "a.npy", "wb") as file:
            np.lib.format.write_array(file, expected, version=(2, 0))
    elif kind == "npz":
        np.savez(tmp_path / "a.npz", labels=np.arange(7), pictures=expected)
    elif kind == "compressed":
        np.savez_compressed(tmp_path / "a.npz", labels=np.arange(7), pictures=expected)
    else:
        for number, image in enumerate(expected):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
    (images,) = open_images(tmp_path)
    assert len(images) == 7
    assert images.shape == SHAPE
    assert np.array_equal(everything(images), expected)
    order = np.array([5, 0, 0, 6])
    assert np.array_equal(images.read(order), expected[order])
    assert images.read(order[:0]).shape == (0, *SHAPE)


def test_an_array_can_be_named_and_a_file_opened_by_itself(tmp_path):
    first, second = numbered(3), numbered(4, 100)
    np.savez(tmp_path / "a.npz", first=first, second=second)
    (images,) = open_images(tmp_path / "a.npz", "second")
    assert np.array_equal(everything(images), second)
    with pytest.raises(RunError, match=r"a\.npz holds 2 arrays of images .*--array"):
        open_images(tmp_path)
    with pytest.raises(RunError, match=r"a\.npz has no array 'third', only first, second"):
        open_images(tmp_path, "third")


def test_truth_values_are_black_and_white_and_grey_has_one_channel(tmp_path):
    values = np.random.default_rng(0).random((5, 8, 9)) < 0.5
    np.save(tmp_path / "a.npy", values)
    (images,) = open_images(tmp_path)
    assert np.array_equal(everything(images)[..., 0], values * 255)


def test_folders_are_searched_to_the_bottom_in_order(tmp_path):
    for folder, begin in (("b", 10), ("a/c", 20)):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(numbered(1, begin)[0]).save(tmp_path / folder / "x.png")
    np.save(tmp_path / "z.npy", numbered(2))
    found = open_images(tmp_path)
    assert [names_of(everything(images)).tolist() for images in found] == [[0, 1], [20], [10]]


@pytest.mark.parametrize("truncated", [True, False])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".png"])
def test_a_bad_file_gets_one_sentence_that_names_it(tmp_path, suffix, truncated):
    path = tmp_path / f"bad{suffix}"
    if suffix == ".npy":
        np.save(path, numbered(50))
    elif suffix == ".npz":
        np.savez_compressed(path, numbered(50))
    else:
        Image.fromarray(numbered(1)[0]).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if truncated else b"nothing of the kind")
    with pytest.raises(RunError, match=rf"bad\{suffix}") as error:
        everything(open_images(tmp_path)[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 8, 8), np.float32), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 8), np.uint8)],
)
def test_an_array_of_something_else_gets_a_sentence(tmp_path, array):
    np.save(tmp_path / "odd.npy", array)
    with pytest.raises(RunError, match=r"odd\.npy expects images, uint8 or bool \[N, H, W\]"):
        open_images(tmp_path)


def test_what_is_missing_gets_a_sentence(tmp_path):
    with pytest.raises(RunError, match="neither a file nor a folder"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(RunError, match="there are no images in"):
        open_images(tmp_path)
    (tmp_path / "note.txt").write_text("nothing")
    with pytest.raises(RunError, match=r"note\.txt is none of \.npy"):
        open_images(tmp_path / "note.txt")


def test_shapes_have_to_agree_until_they_are_prepared(tmp_path):
    np.save(tmp_path / "a.npy", numbered(2))
    np.save(tmp_path / "b.npy", numbered(2, shape=(16, 12, 1)))
    found = open_images(tmp_path)
    with pytest.raises(ValueError, match=r"b\.npy has images of .*a\.npy.*--size and --grayscale"):
        common_shape(found)
    prepared = [Prepared(images, 16, grayscale=True) for images in found]
    assert common_shape(prepared) == (16, 16, 1)
    assert get_random_samples(prepared, 5).shape == (5, 16, 16, 1)
    Image.fromarray(numbered(1)[0]).save(tmp_path / "c.png")
    Image.fromarray(numbered(1, shape=(8, 8, 3))[0]).save(tmp_path / "d.png")
    with pytest.raises(RunError, match=r"d\.png has the shape .*c\.png .*--size"):
        everything(open_images(tmp_path)[-1])


def test_resizing_averages_what_a_pixel_covers(tmp_path):
    image = numbered(1, shape=(16, 16, 2))
    np.save(tmp_path / "a.npy", image)
    (images,) = open_images(tmp_path)
    expected = image[0].reshape(8, 2, 8, 2, 2).mean((1, 3))
    assert np.abs(everything(Prepared(images, 8))[0] - expected).max() <= 1  # it rounds twice
    assert np.array_equal(everything(Prepared(images)), image)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "a.npy", numbered(100))
    np.savez_compressed(tmp_path / "b.npz", numbered(300, 1000))
    return open_images(tmp_path)


@pytest.mark.parametrize(
    ("weights", "share"), [(None, 0.25), ([3.0, 1.0], 0.5), ([1.0, 0.0], 1.0)]
)
def test_samples_come_from_files_as_often_as_told(files, weights, share):
    random = np.random.default_rng(0)
    number = 4000
    names = names_of(get_random_samples(files, number, weights, random))
    from_first = names < 1000
    error = max((share * (1 - share) / number) ** 0.5, 1e-9)
    assert abs(from_first.mean() - share) <= 4 * error
    counts = np.bincount(names[from_first], minlength=100)
    assert set(counts) <= {counts.min(), counts.min() + 1}  # none twice before all once
    halves = from_first.reshape(2, -1).mean(1)
    assert abs(halves[0] - halves[1]) <= 8 * error  # in random order


def test_no_image_comes_twice_in_a_super_batch_and_all_are_alike(files):
    random = np.random.default_rng(0)
    seen = np.zeros(1300)
    for _ in range(300):
        names = names_of(get_random_samples(files, 60, None, random))
        assert len(set(names)) == 60
        np.add.at(seen, names, 1)
    counts = seen[np.r_[0:100, 1000:1300]]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_weights_that_make_no_sense_are_refused(files):
    for weights in ([1.0], [-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="one weight for each of 2 files"):
            get_random_samples(files, 3, weights)
    with pytest.raises(ValueError, match=r"--weights c\.npy is the name of 0 of"):
        Batches(files, 4, 8, {"c.npy": 2.0})


def test_batches_go_through_a_super_batch_once(files):
    batches = Batches(files, 20, 400, seed=1)
    epoch = np.concatenate([names_of(batch) for batch in itertools.islice(batches, 20)])
    assert len(epoch) == 400
    assert len({*epoch}) > 380  # the shares of the files vary
    again = Batches(files, 20, 400, seed=1)
    assert np.array_equal(names_of(next(again)), epoch[:20])
    assert not np.array_equal(names_of(next(Batches(files, 20, 400, seed=2))), epoch[:20])


def test_weights_by_name_reach_the_batches(files):
    batches = Batches(files, 50, 400, {"a.npy": 0.0})
    assert all((names_of(batch) >= 1000).all() for batch in itertools.islice(batches, 20))


@pytest.mark.parametrize("truth", [None, "dynamic", "threshold"])
def test_batches_go_on_where_they_stopped(files, truth):
    batches = Batches(files, 7, 30, seed=3, truth=truth)
    for _ in range(6):
        next(batches)
    state = batches.state_dict()
    expected = [next(batches).numpy() for _ in range(9)]
    other = Batches(files, 7, 30, seed=4, truth=truth)
    other.load_state_dict(state)
    assert np.array_equal([next(other).numpy() for _ in range(9)], expected)


def test_binarisation_draws_anew_with_brightness_as_probability():
    random = np.random.default_rng(0)
    grey = np.tile(np.array([0, 51, 204, 255], np.uint8), (20_000, 1))
    drawn = binarise(grey, "dynamic", random)
    assert drawn.dtype == bool
    error = 4 * (0.16 / 20_000) ** 0.5
    assert np.abs(drawn.mean(0) - [0, 0.2, 0.8, 1]).max() < error
    assert not drawn[:, 0].any()
    assert drawn[:, 3].all()
    assert not np.array_equal(drawn, binarise(grey, "dynamic", random))
    assert binarise(grey, "threshold", random)[0].tolist() == [False, False, True, True]
