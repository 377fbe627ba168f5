"""Laws of sound files: what is written comes back, in blocks or whole, or a sentence says why."""

import random
import struct
import warnings
from math import gcd

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from worldmodel.experiments.data.readers import audio, confined
from worldmodel.experiments.data.readers.audio import read_audio, resampled
from worldmodel.experiments.data.readers.audio_out import decibels, draw_spectrogram, write_wav
from worldmodel.experiments.data.readers.files import BadFileError
from worldmodel.run_folder import RunError

FORMATS = {  # of WAV: tag, bits, values of full scale (None: floats)
    "8 bits": (1, 8, 2**7),
    "16 bits": (1, 16, 2**15),
    "24 bits": (1, 24, 2**23),
    "32 bits": (1, 32, 2**31),
    "float": (3, 32, None),
    "double": (3, 64, None),
}
GUID = bytes.fromhex("000000001000800000aa00389b71")


def chunk(kind, data, size=None):
    """A chunk of a RIFF file; `size` is what it says of itself, if not the truth."""
    return (
        kind
        + struct.pack("<I", len(data) if size is None else size)
        + data
        + b"\0" * (len(data) % 2)
    )


def wav(data, channels=1, rate=8000, tag=1, bits=16, valid=None, before=b"", size=None):
    """The bytes of a WAV file, by hand; with `valid` bits it is WAVE_FORMAT_EXTENSIBLE."""
    width = channels * ((bits + 7) // 8)
    kind = tag if valid is None else 0xFFFE
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    if valid is not None:
        form += struct.pack("<HHIH", 22, valid, 0, tag) + GUID
    body = b"WAVE" + before + chunk(b"fmt ", form) + chunk(b"data", data, size)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def encoded(values, bits, full):
    """Values [N, channels], integers below `full` or floats, as the samples of a WAV file."""
    if full is None:
        return np.asarray(values, f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (np.asarray(values) + 128).astype(np.uint8).tobytes()
    wide = np.asarray(values, "<i4").reshape(-1, 1).view(np.uint8)
    return wide[:, : bits // 8].tobytes()


def drawn(full, shape, seed=0):
    """Values of a format, its extremes among them, and the same as a float64 of -1 to 1."""
    generator = np.random.default_rng(seed)
    if full is None:
        values = generator.uniform(-1, 1, shape).astype(np.float32)
        return values, values.astype(float)
    values = generator.integers(-full, full, shape)
    values.flat[:2] = -full, full - 1
    return values, values / full


def written(path, data):
    path.write_bytes(data)
    return path


def everything(path, rate=8000, frame=10, dequantise=None):
    """All the recordings of a file as one signal, float32 [N]."""
    return np.concatenate(
        [r.observation.ravel() for r in read_audio(path, rate, frame, dequantise)]
    )


def flac(path, values, rate=8000, subtype="PCM_16"):
    """A FLAC file; values: int32 [N, channels], their high bits being the samples."""
    soundfile.write(path, values, rate, subtype=subtype, format="FLAC")
    return path


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_read_as_they_are(tmp_path, name, channels, extensible):
    tag, bits, full = FORMATS[name]
    values, expected = drawn(full, (30, channels))
    data = wav(
        encoded(values, bits, full), channels, 8000, tag, bits, bits if extensible else None
    )
    (recording,) = read_audio(written(tmp_path / "a.wav", data), 8000, 10, None)
    assert recording.observation.dtype == np.float32
    assert recording.observation.shape == (3, 10)
    assert recording.name == "a.wav"
    assert np.array_equal(recording.observation.ravel(), expected.mean(1).astype(np.float32))


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_S8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_flac_is_read_as_the_same_samples_of_a_wav(tmp_path, subtype, bits):
    values, expected = drawn(2 ** (bits - 1), (5000, 2))
    path = flac(tmp_path / "a.flac", (values << (32 - bits)).astype(np.int32), subtype=subtype)
    assert np.array_equal(everything(path), expected.mean(1).astype(np.float32))


OTHERS = {  # by suffix: format and codings of soundfile
    "wav": ("WAV", ["ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"]),
    "aiff": ("AIFF", ["PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW"]),
    "au": ("AU", ["PCM_16", "ULAW"]),
    "caf": ("CAF", ["PCM_16", "ALAC_16"]),
    "ogg": ("OGG", ["VORBIS"]),
    "opus": ("OGG", ["OPUS"]),
    "mp3": ("MP3", ["MPEG_LAYER_III"]),
}


@pytest.mark.parametrize("suffix", OTHERS)
def test_other_formats_are_read_as_soundfile_reads_them(tmp_path, suffix):
    signal = 0.5 * np.sin(np.arange(8000) / 3)
    form, codings = OTHERS[suffix]
    for coding in codings:
        path = tmp_path / f"{coding}.{suffix}"
        soundfile.write(path, signal, 8000, subtype=coding, format=form)
        expected = soundfile.read(path)[0]
        np.testing.assert_allclose(everything(path, frame=1), expected, rtol=0, atol=1e-6)
        assert abs(np.corrcoef(signal[:7000], expected[:7000])[0, 1]) > 0.97
    assert f".{suffix}" in audio.SUFFIXES


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "mp3"])
def test_other_formats_that_are_cut_off_are_no_shorter_sounds(tmp_path, suffix):
    form, codings = OTHERS[suffix]
    for coding in codings:
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, np.sin(np.arange(8000)), 8000, subtype=coding, format=form)
        data = path.read_bytes()
        with pytest.raises(BadFileError, match="is not whole"):
            everything(written(path, data[: len(data) * 2 // 3]))


def test_noise_of_compressed_sound_is_of_16_bits(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(20_000), 8000, subtype="ULAW")
    noise = noise_of(path, 0, 2**15)
    assert 0 <= noise.min() < 0.001
    assert 0.999 < noise.max() <= 1


@pytest.mark.parametrize(
    ("old", "new", "length", "size"),
    [
        (44100, 16000, 20_011, 4096),
        (44100, 16000, 20_011, 700),
        (8000, 16000, 20_011, 30_000),
        (16000, 8000, 20_011, 1000),
        (11025, 8000, 20_011, 999),
        (48000, 16000, 50, 1),
        (16000, 48000, 50, 1),
    ],
)
def test_resampling_in_blocks_has_no_seams(old, new, length, size):
    signal = np.random.default_rng(0).normal(size=length)
    up, down = new // gcd(old, new), old // gcd(old, new)
    blocks = (signal[start : start + size] for start in range(0, length, size))
    done = np.concatenate(list(resampled(blocks, up, down)))
    assert np.array_equal(done, resample_poly(signal, up, down).astype(np.float32))


def test_a_file_of_another_rate_is_resampled(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK", 1000)
    values, expected = drawn(2**15, (9000, 1))
    path = written(tmp_path / "a.wav", wav(encoded(values, 16, 2**15), rate=44100))
    whole = resample_poly(expected[:, 0], 160, 441).astype(np.float32)
    assert np.array_equal(everything(path, 16000, 5), whole[: len(whole) // 5 * 5])


def test_a_long_file_is_several_recordings_with_their_places(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "PIECE", 45)  # samples: the frames are whole, one at least
    monkeypatch.setattr(audio, "BLOCK", 7)
    values, expected = drawn(2**15, (95, 1))
    path = written(tmp_path / "a.wav", wav(encoded(values, 16, 2**15)))
    recordings = list(read_audio(path, 8000, 10, None))
    assert [len(r.observation) for r in recordings] == [4, 4, 1]
    assert [r.name for r in recordings] == ["a.wav", "a.wav from 0.005 s", "a.wav from 0.01 s"]
    joined = np.concatenate([r.observation.ravel() for r in recordings])
    assert np.array_equal(joined, expected[:90, 0].astype(np.float32))
    (first, *_) = read_audio(path, 8000, 50, None)
    assert first.observation.shape == (1, 50)


def test_a_file_of_a_lower_rate_gets_noise_where_it_held_nothing(tmp_path, monkeypatch):
    """Of 16 bits, uniform, on top of what the resampled file is."""
    values, _ = drawn(2**15, (9000, 1))
    path = written(tmp_path / "a.wav", wav(encoded(values, 16, 2**15), rate=8000))
    noise = np.random.default_rng(0)
    before = resample_poly(values[:, 0] / 2**15 + noise.random(9000) / 2**15, 2, 1)
    added = (everything(path, 16000, 5, np.random.default_rng(0)).ravel() - before) * 2**15
    assert -0.01 < added.min() < 0.01
    assert 0.99 < added.max() < 1.01
    assert abs(added.mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(added))
    power = np.abs(np.fft.rfft(added - added.mean())) ** 2
    upper = power[len(power) // 2 :].mean() / power.mean()
    assert abs(upper - 1) < 0.1  # as much above the file's band as below
    monkeypatch.setattr(audio, "BLOCK", 700)
    again = everything(path, 16000, 5, np.random.default_rng(0)).ravel()
    np.testing.assert_allclose(again, added / 2**15 + before, atol=1e-6)
    assert np.array_equal(everything(path, 16000, 5).ravel()[:100], unnoisy(values)[:100])


def unnoisy(values):
    return resample_poly(values[:, 0] / 2**15, 2, 1).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_noise_fills_one_step_of_the_format(tmp_path, name):
    """Uniformly: mean, standard deviation and bounds of 20,000 draws, and all of them differ."""
    tag, bits, full = FORMATS[name]
    values = np.full((20_000, 1), 0 if full is None else full // 4)
    data = wav(encoded(values, bits, full), 1, 8000, tag, bits)
    noise = noise_of(written(tmp_path / "a.wav", data), 0 if full is None else 0.25, full or 2**15)
    assert 0 <= noise.min() < 0.001
    assert 0.999 < noise.max() <= 1
    assert abs(noise.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 20_000)
    assert abs(noise.std() - np.sqrt(1 / 12)) < 0.005


def noise_of(path, value, full):
    """The noise that was added to samples of one value, in steps of the format."""
    recordings = audio._mono(*header_and_samples(path), np.random.default_rng(0))
    return (np.concatenate(list(recordings)) - value) * full


def header_and_samples(path):
    samples = audio._decoded(path, 8000, 1000)
    sound = next(samples)
    return samples, sound.step


def test_valid_bits_tell_the_step(tmp_path):
    path = written(tmp_path / "a.wav", wav(b"\0" * 3 * 20_000, 1, 8000, 1, 24, valid=20))
    assert 0.999 < noise_of(path, 0, 2**19).max() < 1


def test_noise_comes_from_the_generator_and_from_nothing_else(tmp_path, monkeypatch):
    path = written(tmp_path / "a.wav", wav(b"\0" * 4000, channels=2))
    first = everything(path, dequantise=np.random.default_rng(3))
    monkeypatch.setattr(audio, "BLOCK", 7)
    assert np.array_equal(first, everything(path, dequantise=np.random.default_rng(3)))
    assert not np.array_equal(first, everything(path, dequantise=np.random.default_rng(4)))


def test_integers_come_back_through_the_writer(tmp_path):
    """Noise or not: a sample is written as the integer in whose cell it lies."""
    integers = np.arange(-32768, 32768, 7)
    assert write_wav(tmp_path / "a.wav", integers / 32768, 16000) == 0
    assert np.array_equal(everything(tmp_path / "a.wav", 16000, 1) * 32768, integers)
    noisy = everything(tmp_path / "a.wav", 16000, 1, np.random.default_rng(0)).astype(float)
    assert write_wav(tmp_path / "b.wav", noisy, 16000) == 0
    again = everything(tmp_path / "b.wav", 16000, 1) * 32768
    assert np.mean(again != integers) < 1e-3  # float32 rounds a few samples into the next cell
    assert np.abs(again - integers).max() <= 1


def test_what_is_too_loud_is_clipped_and_told(tmp_path):
    share = write_wav(tmp_path / "a.wav", np.array([0, 1, -1, 1.5, -3, 0.5, 0, 0]), 8000)
    assert share == 2 / 8
    expected = [0, 1 - 2**-15, -1, 1 - 2**-15, -1, 0.5, 0, 0]
    assert everything(tmp_path / "a.wav", frame=8).tolist() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(5), 8000)
    with pytest.raises(RunError, match="not all finite"):
        write_wav(tmp_path / "a.wav", np.array([0, np.nan]), 8000)
    assert len(everything(tmp_path / "a.wav", frame=5)) == 5


HALF = wav(b"\1\2" * 50)[:-20]
REFUSED = {
    "empty": (b"", "a.wav is empty"),
    "text": (b"To be, or not to be", r"no sound that can be read \(Format not recognised\)"),
    "ogg": (b"OggS" + b"\0" * 50, "no sound that can be read"),
    "header": (b"RIFF", "no sound that can be read"),
    "no samples": (wav(b""), "has no samples"),
    "no data": (wav(b"")[:-8], "No 'data' chunk"),
    "short": (wav(b"\0" * 18), "has 9 samples at 8000 Hz, but one frame is 10"),
    "truncated": (HALF, "ends after 40 of about 50 samples: it is not whole"),
    "codec": (wav(b"\0" * 50, tag=77), "no sound that can be read"),
    "no rate": (wav(b"\0" * 50, rate=0), "no sound that can be read"),
    "low rate": (wav(b"\0" * 50, rate=999), "999 samples a second, expected 1000 to 768000"),
    "high rate": (wav(b"\0" * 50, rate=2**32 // 4), "1073741824 samples a second"),
    "odd rate": (wav(b"\0" * 50, rate=44101), "cannot be resampled to 8000"),
    "no channels": (wav(b"\0" * 50, channels=0), "Channel count is zero"),
    "many channels": (wav(b"\0" * 130, channels=65), "65 channels, expected 1 to 64"),
    "not a number": (wav(np.full(20, np.nan, "f4").tobytes(), tag=3, bits=32), "sample of nan"),
    "infinite": (wav(np.full(20, -np.inf, "f4").tobytes(), tag=3, bits=32), "sample of -inf"),
    "unscaled": (wav(np.full(20, 9999, "f8").tobytes(), tag=3, bits=64), "sample of 9999"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, name):
    data, sentence = REFUSED[name]
    path = written(tmp_path / "a.wav", data)
    with pytest.raises(BadFileError, match=sentence) as caught:
        list(read_audio(path, 8000, 10, None))
    text = str(caught.value)
    assert str(path) in text
    assert "leave it out" in text
    assert "\n" not in text


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(BadFileError, match="cannot be read"):
        list(read_audio(tmp_path, 8000, 10, None))


def test_a_header_that_claims_4_gigabytes_gives_what_is_there(tmp_path):
    """As programs leave it that write to a pipe; all but the length is as it should be."""
    values, expected = drawn(2**15, (40, 1))
    path = written(tmp_path / "a.wav", wav(encoded(values, 16, 2**15), size=2**32 - 1))
    assert np.array_equal(everything(path), expected[:, 0].astype(np.float32))


def test_what_is_whole_of_a_truncated_file_comes_before_the_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "PIECE", 20)  # samples
    reader = read_audio(written(tmp_path / "a.wav", HALF), 8000, 10, None)
    assert [len(next(reader).observation) for _ in range(2)] == [2, 2]
    with pytest.raises(BadFileError, match="ends after 40 of about 50"):
        next(reader)


def test_chunks_that_are_not_sound_are_passed_over(tmp_path):
    values, expected = drawn(2**15, (40, 1))
    before = chunk(b"LIST", b"INFOISFT\5\0\0\0odd!\0") + chunk(b"bext", b"12345")
    path = written(tmp_path / "a.wav", wav(encoded(values, 16, 2**15), before=before))
    assert np.array_equal(everything(path), expected[:, 0].astype(np.float32))


def test_a_truncated_flac_is_said_to_be_damaged(tmp_path):
    values, _ = drawn(2**31, (5000, 2))
    whole = flac(tmp_path / "a.flac", values.astype(np.int32)).read_bytes()
    for length in (4, 30, 42, 100, len(whole) // 2, len(whole) - 5):
        path = written(tmp_path / "b.flac", whole[:length])
        with pytest.raises(BadFileError, match=r"b\.flac (is no sound|ends after).*leave it out"):
            list(read_audio(path, 8000, 10, None))


def test_a_flac_without_its_length_is_refused(tmp_path):
    data = bytearray(flac(tmp_path / "a.flac", np.zeros((5000, 1), np.int32)).read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    with pytest.raises(BadFileError, match="does not say how many samples"):
        list(read_audio(written(tmp_path / "b.flac", data), 8000, 10, None))


def test_a_wav_that_hangs_libsndfile_is_refused_in_time(tmp_path, monkeypatch):
    """https://github.com/libsndfile/libsndfile/issues/1118"""
    monkeypatch.setattr(confined, "SECONDS", 0.5)
    info = chunk(b"LIST", b"INFOabcd" + struct.pack("<I", 2**32 - 9) + b"x" * 40)
    path = written(tmp_path / "a.wav", wav(b"\1\2" * 20, before=info))
    with pytest.raises(BadFileError, match=r"a\.wav .*more than 0\.5 seconds.*leave it out"):
        list(read_audio(path, 8000, 10, None))


def test_without_soundfile_one_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(RunError, match=r"pip install 'worldmodel-gym\[audio\]'") as caught:
        list(read_audio(written(tmp_path / "a.wav", b"RIFF"), 8000, 10, None))
    assert not isinstance(caught.value, BadFileError)  # it is not the file that is bad


INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF]


def mutant(seeds, chance):
    """A file that was valid, and was then changed in one to four places."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        place = min(chance.randrange(len(data) + 1), chance.randrange(len(data) + 1))
        length = chance.randint(1, 16)
        match chance.randrange(7):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                data[place : place + 1] = bytes([chance.choice(INTERESTING)])
            case 2:  # a number in a header
                number = chance.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, chance.getrandbits(32)])
                data[place : place + 4] = struct.pack("<I", number)
            case 3:
                del data[place:]
            case 4:
                del data[place : place + length]
            case 5:
                data[place:place] = chance.randbytes(length)
            case 6:  # two parts change places
                other = chance.randrange(len(data) + 1)
                part = data[place : place + length]
                data[place : place + length] = data[other : other + length]
                data[other : other + length] = part
    return bytes(data)


def outcome(path, data, frame=20):
    """How many frames a file has, or None if it is refused; nothing else may come of it."""
    path.write_bytes(data)
    frames, said = 0, None
    try:
        for recording in read_audio(path, 8000, frame, np.random.default_rng(0)):
            assert recording.observation.shape[1:] == (frame,)
            assert np.abs(recording.observation).max() < 2 * audio.LOUDEST
            frames += len(recording.observation)
    except BadFileError as error:
        said = str(error)
    assert said is None or str(path) in said
    return frames if said is None else None


INFO = chunk(b"LIST", b"INFOISFT\4\0\0\0odd!")


def wav_seeds():
    seeds = []
    for index, (tag, bits, full) in enumerate(FORMATS.values()):
        values, _ = drawn(full, (60, 1 + index % 2))
        parts = encoded(values, bits, full), 1 + index % 2, 8000 + 3025 * (index % 2), tag, bits
        seeds += [wav(*parts), wav(*parts, valid=bits, before=INFO)]
    return seeds


def flac_seeds(folder):
    seeds = []
    for index, subtype in enumerate(["PCM_S8", "PCM_16", "PCM_24"]):
        values = np.random.default_rng(0).integers(-(2**31), 2**31, (60, 1 + index % 2))
        path = flac(folder / "seed.flac", values.astype(np.int32), 8000, subtype)
        seeds.append(path.read_bytes())
    return seeds


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_damaged_files_are_read_or_refused(tmp_path, kind):
    """1,000 of them: never another exception, a warning, or more frames than bytes can hold."""
    seeds = wav_seeds() if kind == "wav" else flac_seeds(tmp_path)
    assert all(outcome(tmp_path / f"a.{kind}", seed) for seed in seeds)
    # samples a byte: one of 8 bits; a FLAC frame of 12 bytes may hold 65,536 equal ones
    most = (1 if kind == "wav" else 65_536 / 12) * 8000 / audio.LOWEST_RATE
    chance, read = random.Random(0), 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(1000):
            data = mutant(seeds, chance)
            frames = outcome(tmp_path / f"a.{kind}", data)
            read += frames is not None
            assert (frames or 0) * 20 <= len(data) * most
    assert 20 < read < 980


def test_decibels_of_a_sine_are_of_its_amplitude_and_at_its_frequency():
    rate, window = 8000, 256
    for amplitude, line in ((1, 32), (0.1, 100)):
        sine = amplitude * np.sin(2 * np.pi * line * np.arange(4000) / window)
        picture = decibels(sine, rate)
        assert picture.shape == (window // 2 + 1, 1 + (4000 - window) // 64)
        assert (picture.argmax(0) == line).all()
        assert np.allclose(picture[line], 20 * np.log10(amplitude), atol=0.01)


def test_spectrograms_are_drawn_of_long_short_and_silent_signals(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(0).normal(size=5000)
    one, three = tmp_path / "one.png", tmp_path / "three.png"
    draw_spectrogram(one, [("noise", noise)], 8000)
    draw_spectrogram(
        three, [("noise", noise), ("one sample", noise[:1]), ("prune_inactive", 0 * noise)], 8000
    )
    assert image.open(three).size[1] > 2 * image.open(one).size[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "three.png"]


def test_long_signals_have_no_more_columns_than_can_be_seen():
    assert decibels(np.zeros(3_000_000), 16000).shape[1] <= 2001
