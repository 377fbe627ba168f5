"""Laws of images on disk: what is drawn is what lies there, as often as it is told."""

import itertools

import numpy as np
import pytest
from command_line import assert_refused, worldmodel
from mutants import mutant, put
from PIL import Image
from scipy import stats

from worldmodel.experiments.data.readers.files import BadFileError
from worldmodel.experiments.images.config import ImagesConfig, VAEConfig
from worldmodel.experiments.images.files import Prepared, images_of, open_images
from worldmodel.experiments.images.training import batches_of
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
    [
        np.zeros((3, 8, 8), np.int64),
        np.zeros((8, 8), np.uint8),
        np.zeros((0, 8, 8), np.uint8),
        np.zeros((3, 17, 20, 20), np.uint8),
        np.zeros((3, 8, 8), complex),
    ],
)
def test_an_array_of_something_else_gets_a_sentence(tmp_path, array):
    np.save(tmp_path / "odd.npy", array)
    with pytest.raises(RunError, match=r"odd\.npy expects images \[N, H, W\], .* of uint8"):
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
    with pytest.raises(RunError, match=r"d\.png has the shape .*--size and --grayscale"):
        everything(open_images(tmp_path)[-1])


def test_pictures_of_any_size_and_colour_are_made_alike(tmp_path):
    sizes = [(20, 16, 3), (16, 20, 3), (30, 30, 1), (16, 16, 3)]
    for number, shape in enumerate(sizes):
        Image.fromarray(numbered(1, shape=shape)[0].squeeze()).save(tmp_path / f"{number}.png")
    (images,) = images_of(ImagesConfig(str(tmp_path), size=16, grayscale=True), print)
    assert everything(images).shape == (4, 16, 16, 1)
    (images,) = images_of(ImagesConfig(str(tmp_path), size=16), print)
    with pytest.raises(RunError, match=r"\[16, 16, 1\] among those of \[16, 16, 3\].*--grayscale"):
        everything(images)


LAYOUTS = {
    "channels first": lambda images: np.moveaxis(images, -1, 1),
    "in Fortran's order": np.asfortranarray,
    "in Fortran's order, channels first": lambda x: np.asfortranarray(np.moveaxis(x, -1, 1)),
    "of 16 bits": lambda images: images * np.uint16(257),
    "of 16 bits, big endian": lambda images: (images * np.uint16(257)).astype(">u2"),
    "floats of 16 bits": lambda images: (images / 255).astype(np.float16),
    "floats of 32 bits": lambda images: (images / 255).astype(np.float32),
    "floats of 64 bits, channels first": lambda images: np.moveaxis(images / 255, -1, 1),
}


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_and_numbers_are_taken_in_and_told(tmp_path, monkeypatch, layout, save):
    monkeypatch.setattr("worldmodel.experiments.images.arrays.CONVERTED", 10_000)  # 9 images
    expected, lines = numbered(20, shape=(20, 18, 3)), []
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, LAYOUTS[layout](expected))
    (images,) = open_images(path, report=lines.append)
    assert images.shape == (20, 18, 3)
    order = np.array([13, 0, 19, 0])
    assert np.array_equal(images.read(order), expected[order])
    (line,) = lines
    assert str(path) in line
    for word in ("channels first", "Fortran", "16 bits, the upper", "floats"):
        assert (word in line) == (
            word.split(",")[0] in layout.replace("floats of 16 bits", "floats")
        )


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_stacks_of_frames_and_single_frames_are_images(tmp_path, dtype):
    frames = numbered(5, shape=(84, 84, 4)) if dtype == np.uint8 else None
    if frames is None:
        frames = np.random.default_rng(0).random((5, 84, 84, 4)) < 0.5
    np.save(tmp_path / "stacks.npy", np.moveaxis(frames, -1, 1))
    np.save(tmp_path / "single.npy", frames[..., 0])
    single, stacks = open_images(tmp_path)
    assert np.array_equal(
        everything(stacks), frames.astype(np.uint8) * (255 if dtype is bool else 1)
    )
    assert np.array_equal(everything(single), everything(stacks)[..., :1])


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf])
def test_floats_that_are_no_brightness_get_a_sentence(tmp_path, value):
    images = np.zeros((3, 9, 9))
    images[1, 2, 3] = value
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(
        RunError, match=rf"a\.npy expects .* between 0 and 1, got {value:g}; scale"
    ):
        open_images(tmp_path)


def test_an_array_of_bytes_is_preferred_to_others_in_its_file(tmp_path):
    expected = numbered(3)
    np.savez(tmp_path / "a.npz", features=np.zeros((3, 4, 5)), images=expected)
    (images,) = open_images(tmp_path)
    assert np.array_equal(everything(images), expected)


def test_pictures_of_16_bits_keep_their_upper_half(tmp_path):
    expected = numbered(1, shape=(9, 8))[0]
    Image.fromarray(expected * np.uint16(257)).save(tmp_path / "a.png")
    (images,) = open_images(tmp_path)
    assert np.array_equal(everything(images)[0, ..., 0], expected)


@pytest.fixture
def mixed(tmp_path):
    """Two bad pictures among five, and two bad arrays beside a good one; and their names."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(numbered(5)):
        Image.fromarray(image).save(folder / f"{number}.png")
    np.save(folder / "good.npy", numbered(10, 100))
    for name in ("0.png", "3.png"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    (folder / "bad.npz").write_bytes(b"PK no more")
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-1])
    return folder, ["0.png", "3.png", "bad.npz", "cut.npy"]


def test_bad_files_stop_or_are_left_out(mixed):
    folder, bad = mixed
    with pytest.raises(RunError, match=r"bad\.npz cannot be read"):
        open_images(folder)
    lines = []
    found = open_images(folder, on_error="skip", report=lines.append)
    assert [len(images) for images in found] == [10, 5]
    assert names_of(everything(found[1])).tolist() == [1, 1, 2, 4, 4]  # the next comes instead
    assert names_of(everything(found[1])).tolist() == [1, 1, 2, 4, 4]
    assert len(lines) == 4
    assert all(any(name in line and "left out" in line for line in lines) for name in bad)


def test_a_folder_of_bad_pictures_holds_no_images(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.png").write_bytes(b"none either")
    lines = []
    with pytest.raises(RunError, match="there are no images in"):
        open_images(tmp_path, on_error="skip", report=lines.append)
    assert len(lines) == 3
    with pytest.raises(RunError, match=r"a\.png cannot be read"):
        open_images(tmp_path)


def test_a_run_stops_at_bad_images_or_leaves_them_out(mixed, tmp_path):
    folder, bad = mixed
    run = tmp_path / "run"
    assert_refused(worldmodel("train", "vae", "--images", folder, "--quick", "--out", run), bad[2])
    lines = []
    config = VAEConfig(ImagesConfig(str(folder), on_error="skip", super_batch=64), seed=1)
    first, second = (batches_of(config, lines.append) for _ in range(2))
    for _ in range(3):
        drawn = next(first)
        assert set(names_of(drawn)) <= {1, 2, 4, *range(100, 110)}
        assert np.array_equal(drawn, next(second))
    assert all(any(name in line for line in lines) for name in bad)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_picture_is_read_or_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(numbered(1, shape=(20, 20, 3))[0]).save(path)
    data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        put(path, mutant(data, random))
        try:
            (images,) = open_images(tmp_path)
            assert everything(images).shape == (1, *images.shape)
        except BadFileError:
            refused += 1
    assert 0 < refused < 300


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
