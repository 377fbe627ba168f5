"""Laws of MIDI files: what is written comes back, to the step, or a sentence says why not."""

import struct

import numpy as np
import pytest
from mutants import mutant, put

from worldmodel.experiments.data.readers import midi
from worldmodel.experiments.data.readers.files import BadFileError
from worldmodel.experiments.data.readers.midi import MAX_STEPS, notes_of, read_midi, write_midi

TICKS = 96  # a quarter note, in files by hand
END = (0, b"\xff\x2f\x00")


def number(value):
    """A number as tracks have it."""
    coded = bytes([value & 0x7F])
    while value := value >> 7:
        coded = bytes([value & 0x7F | 0x80]) + coded
    return coded


def on(pitch, channel=0, velocity=64):
    return bytes([0x90 + channel, pitch, velocity])


def off(pitch, channel=0):
    return bytes([0x80 + channel, pitch, 0])


def track(*events):
    """A chunk of (ticks to wait, bytes)."""
    data = b"".join(number(wait) + event for wait, event in events)
    return b"MTrk" + struct.pack(">I", len(data)) + data


def file(*tracks, kind=1, count=None, division=TICKS):
    count = len(tracks) if count is None else count
    return b"MThd" + struct.pack(">IHHH", 6, kind, count, division) + b"".join(tracks)


def riff(*chunks):
    """A RIFF file of (name, bytes)."""
    body = b"RMID"
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


ONE = track((0, on(60)), (TICKS, off(60)), END)  # a track of one note


def recordings(path, data, steps=1, low=60, high=62):
    path = path / "a.mid"
    path.write_bytes(data)
    return list(read_midi(path, steps, low, high))


def sounding(path, *events, steps=1, low=60, high=62):
    """What a file of one track of these events holds, step by step and pitch by pitch."""
    (recording,) = recordings(path, file(track(*events, END)), steps, low, high)
    return ["".join(map(str, column)) for column in recording.observation.T.astype(int)]


def random_roll(random, steps, pitches, share):
    """Some pitches sound, more or less long; in the last step one does."""
    roll = random.random((steps, pitches)) < share
    roll[1::2] |= roll[: steps // 2 * 2 : 2] & (random.random((steps // 2, pitches)) < 0.7)
    roll[-1, random.integers(pitches)] = True
    return roll


@pytest.mark.parametrize("steps_per_beat", [1, 2, 3, 4, 7, 24, 480, 1000])
def test_what_is_written_comes_back(tmp_path, steps_per_beat):
    random = np.random.default_rng(steps_per_beat)
    for seed in range(20):
        low, pitches = random.integers(0, 40), random.integers(1, 89)
        roll = random_roll(random, random.integers(1, 200), pitches, random.uniform(0, 0.5))
        path = tmp_path / f"{seed}.mid"
        write_midi(path, roll, low, steps_per_beat, tempo=random.uniform(4, 300))
        (recording,) = read_midi(path, steps_per_beat, low, low + pitches - 1)
        assert np.array_equal(recording.observation, roll)
        assert recording.observation.dtype == bool
        assert recording.name == str(path)


def test_silence_is_kept_at_the_beginning_and_cut_at_the_end(tmp_path):
    roll = np.zeros((9, 3), bool)
    roll[4:6, 1] = True
    write_midi(tmp_path / "a.mid", roll, 60, 2)
    (recording,) = read_midi(tmp_path / "a.mid", 2, 60, 62)
    assert np.array_equal(recording.observation, roll[:6])


def test_mido_finds_the_notes_that_were_written(tmp_path):
    mido = pytest.importorskip("mido")
    random = np.random.default_rng(0)
    roll = random_roll(random, 100, 30, 0.3)
    write_midi(tmp_path / "a.mid", roll, 50, 4, tempo=90)
    written = mido.MidiFile(tmp_path / "a.mid")
    assert written.type == 0
    assert written.length == pytest.approx(len(roll) / 4 * 60 / 90)
    step, time, begun, found = written.ticks_per_beat // 4, 0, {}, []
    for message in written.tracks[0]:
        time += message.time
        if message.type == "note_on":
            begun[message.note] = time
        elif message.type == "note_off":
            found.append((message.note - 50, begun.pop(message.note) // step, time // step))
    assert sorted(found) == sorted(notes_of(roll))
    assert not begun


@pytest.mark.parametrize("kind", [0, 1])
def test_what_mido_writes_is_read(tmp_path, kind):
    mido = pytest.importorskip("mido")
    random = np.random.default_rng(kind)
    for _ in range(20):
        expected = np.zeros((64, 128), bool)
        written = mido.MidiFile(type=kind, ticks_per_beat=40)
        for _ in range(1 if kind == 0 else 3):
            messages = [(0, mido.MetaMessage("track_name", name="Ä" * 200))]
            for channel, pitch in {(random.integers(9), random.integers(128)) for _ in range(9)}:
                begin, end = sorted(random.choice(64, 2, replace=False).tolist())
                expected[begin:end, pitch] = True
                config = {"channel": int(channel), "note": int(pitch)}
                messages.append((begin, mido.Message("note_on", **config)))
                messages.append((begin, mido.Message("control_change", control=64, value=127)))
                messages.append((end, mido.Message("note_off", **config)))
                messages.append((end, mido.Message("program_change", program=5)))
            messages.sort(key=lambda message: message[0])
            times = np.diff([time for time, _ in messages], prepend=0) * 10
            written.tracks.append(
                mido.MidiTrack(
                    message.copy(time=int(time))
                    for time, (_, message) in zip(times, messages, strict=True)
                )
            )
        written.save(tmp_path / "a.mid")
        (recording,) = read_midi(tmp_path / "a.mid", 4, 0, 127)
        last = expected.any(1).nonzero()[0][-1]
        assert np.array_equal(recording.observation, expected[: last + 1])


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0, 24, "1"),  # 24 ticks are a step
        (24, 72, "011"),
        (11, 36, "11"),
        (12, 35, "01"),  # halves go up, and a note has a step at least
        (12, 61, "011"),
        (25, 26, "01"),
        (24, 24, "01"),
    ],
)
def test_times_go_to_the_next_step(tmp_path, begin, end, expected):
    events = (begin, on(60)), (end - begin, off(60))
    assert sounding(tmp_path, *events, steps=4)[0] == expected


def test_steps_that_are_no_whole_ticks_are_exact(tmp_path):
    """A third of 100 ticks is 33.33 of them; after 1,000 beats nothing has drifted."""
    notes = [(round(k * 100 / 3), round((k + 1) * 100 / 3)) for k in range(0, 3000, 2)]
    events, before = [], 0
    for begin, end in notes:
        events += [(begin - before, on(60)), (end - begin, off(60))]
        before = end
    (recording,) = recordings(tmp_path, file(track(*events, END), division=100), 3)
    assert np.array_equal(recording.observation[:, 0], np.arange(2999) % 2 == 0)


def test_status_bytes_are_left_out_and_velocity_0_ends_a_note(tmp_path):
    events = (0, on(60)), (TICKS, b"\x3c\x00"), (TICKS, b"\x3d\x40"), (TICKS, b"\x3d\x00")
    assert sounding(tmp_path, *events) == ["100", "001", "000"]


def test_what_is_no_note_takes_its_time_and_nothing_else(tmp_path):
    others = [
        b"\xff\x4b\x01\x00",  # a meta event that nobody knows
        b"\xff\x59\x02\x09\x00",  # a key that there is not
        b"\xff\x01\x81\x00" + b"x" * 128,
        b"\xf0\x03\x01\x02\xf7",
        b"\xf7\x01\xfe",
        b"\xc0\x05",
        b"\xd0\x05",
        b"\xe0\x00\x40",
        b"\xb0\x40\x7f",  # the pedal
        b"\xa0\x3d\x40",
    ]
    events = [(TICKS, other) for other in others]
    assert sounding(tmp_path, *events, (0, on(60)), (TICKS, off(60)))[0] == "0" * 10 + "1"
    held = (0, on(60)), *events, (0, off(60))
    assert sounding(tmp_path, *held)[0] == "1" * 10


def test_other_chunks_are_skipped(tmp_path):
    other = b"XFIH" + struct.pack(">I", 3) + b"abc"
    data = file(other, track((0, on(60)), (TICKS, off(60)), END), other, count=1)
    assert len(recordings(tmp_path, data)) == 1


def test_a_file_in_a_riff_file_is_read_as_it_is(tmp_path):
    (wrapped,) = recordings(tmp_path, riff((b"LIST", b"odd"), (b"data", file(LONG))), 4)
    (plain,) = recordings(tmp_path, file(LONG), 4)
    assert np.array_equal(wrapped.observation, plain.observation)


@pytest.mark.parametrize("frames", [24, 25, 29, 30])
def test_times_in_seconds_are_beats_of_half_a_second(tmp_path, frames):
    """Note n begins at the tick next to n halves of a second, of an hour."""
    ticks = 40 * (30_000 / 1_001 if frames == 29 else frames) / 2  # in half a second
    begins = [round(n * ticks) for n in range(0, 7200, 2)]
    waits = np.diff([0, *begins])
    notes = [event for wait in waits for event in ((wait, on(60)), (0, off(60)))]
    data = file(track(*notes, END), division=(256 - frames) << 8 | 40)
    (recording,) = recordings(tmp_path, data)
    assert np.array_equal(recording.observation[:, 0], np.arange(7199) % 2 == 0)


def test_channels_and_tracks_sound_together(tmp_path):
    one = track((0, on(60, 0)), (TICKS, on(60, 1)), (TICKS, off(60, 0)), (TICKS, off(60, 1)), END)
    other = track((2 * TICKS, on(60)), (3 * TICKS, off(60)), END)
    (recording,) = recordings(tmp_path, file(one))
    assert recording.observation[:, 0].tolist() == [True] * 3
    (recording,) = recordings(tmp_path, file(one, other))
    assert recording.observation[:, 0].tolist() == [True] * 5


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # struck again while it sounds: one note, which the next note-off ends
        ([(0, on(60)), (TICKS, on(60)), (TICKS, off(60)), (TICKS, off(60))], "11"),
        # struck again at the tick of the note-off, which comes later in the file
        ([(0, on(60)), (TICKS, on(60)), (0, off(60)), (TICKS, off(60))], "11"),
        # and the other way round
        ([(0, on(60)), (TICKS, off(60)), (0, on(60)), (TICKS, off(60))], "11"),
        # no time at all is a step
        ([(TICKS, on(60)), (0, off(60)), (TICKS, on(61))], "01"),
        # never ended: until the end of its track
        ([(0, on(60)), (2 * TICKS, b"\xb0\x40\x00")], "11"),
        ([(0, on(60)), (0, on(60)), (TICKS, b"\xff\x2f\x00"), (TICKS, off(60))], "1"),
        # ended twice, ended before it began
        ([(0, off(60)), (0, on(60)), (TICKS, off(60)), (TICKS, off(60))], "1"),
    ],
)
def test_notes_end_when_they_should(tmp_path, events, expected):
    assert sounding(tmp_path, *events)[0].rstrip("0") == expected


def test_drums_and_other_pitches_are_left_out(tmp_path):
    events = (
        (0, on(60)),
        (TICKS, off(60)),
        (0, on(60, 9)),
        (0, on(59)),
        (0, on(63)),
        (TICKS, on(5)),
    )
    assert sounding(tmp_path, *events, low=60, high=62) == ["1", "0", "0"]


def test_each_track_of_format_2_is_a_recording(tmp_path):
    other = track((0, on(61)), (2 * TICKS, off(61)), END)
    found = recordings(tmp_path, file(ONE, track(END), other, kind=2))
    assert [recording.name for recording in found] == [
        f"{tmp_path / 'a.mid'} track {number}" for number in (1, 3)
    ]
    assert [len(recording.observation) for recording in found] == [1, 2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["empty"]),
        (b"RIFF" + bytes(50), ["MThd", "b'RIFF'"]),
        (b"MThd", ["MThd"]),
        (file(ONE, kind=3), ["format 3"]),
        (file(), ["0 tracks"]),
        (file(ONE, division=0), ["0x0000"]),
        (file(ONE, division=0xE628), ["SMPTE", "0xe628"]),  # 26 frames a second
        (file(ONE, division=0xE700), ["SMPTE", "0xe700"]),
        (riff((b"LIST", b"odd"), (b"data", file(ONE)[:-1])), ["cut off"]),
        (riff((b"LIST", b"odd")), ["MThd", "b'RIFF'"]),
        (riff((b"data", file(ONE)))[:40], ["0 whole"]),
        (file(ONE, count=2), ["2 tracks", "1 whole"]),
        (file(ONE[:-1]), ["cut off"]),
        (file(b"MTrk" + struct.pack(">I", 2**31)), ["0 whole"]),
        (file(track((0, b"\x3c\x40"))), ["track 1", "0x00"]),
        (file(ONE, track((0, b"\xf4"))), ["track 2", "0xf4"]),
        (file(track((0, b"\x90\x3c"))), ["track 1", "inside"]),
        (file(track((0, b"\x90\x3c\x80"))), ["below 128"]),
        (file(track((0, b"\xff\x01\x7fshort"))), ["inside"]),
        (file(b"MTrk" + struct.pack(">I", 200_000) + b"\xff" * 200_000), ["at most 4 bytes"]),
        (file(track(END)), ["60 to 62", "none"]),
        (file(track((0, on(60, 9)), (9, off(60, 9)), END)), ["none", "drums"]),
        (file(track((0, on(40)), (9, off(40)), (0, on(70)), END)), ["40 to 70"]),
        (file(track((2**28 - 1, on(60)), END)), [f"{MAX_STEPS} steps", "2796204"]),
        (file(track((0, on(60)), (2**28 - 1, off(60)), END)), [f"{MAX_STEPS} steps"]),
    ],
)
def test_a_wrong_file_gets_a_sentence(tmp_path, data, words):
    with pytest.raises(BadFileError, match=r"a\.mid") as error:
        recordings(tmp_path, data)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_any_size_and_none_get_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(midi, "MAX_BYTES", 20)
    with pytest.raises(BadFileError, match="at most 20 bytes, got 34"):
        recordings(tmp_path, file(ONE))
    with pytest.raises(BadFileError, match="No such file"):
        list(read_midi(tmp_path / "none.mid", 1, 60, 62))


def test_the_longest_recording_is_read(tmp_path):
    events = (0, on(60)), ((MAX_STEPS - 1) * TICKS, off(60)), (0, on(61)), (TICKS, off(61))
    (recording,) = recordings(tmp_path, file(track(*events, END)))
    assert recording.observation.sum(0).tolist() == [MAX_STEPS - 1, 1, 0]


def test_pitches_that_midi_has_not_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="100 to 128"):
        write_midi(tmp_path / "a.mid", np.ones((1, 29), bool), 100, 4)


def some_events():
    """A little of everything that tracks hold."""
    yield from [(0, b"\xff\x03\x04name"), (0, b"\xff\x51\x03\x07\xa1\x20"), (0, b"\xc0\x05")]
    random = np.random.default_rng(0)
    for _ in range(12):
        pitch, wait = random.integers(60, 63), random.integers(300)
        yield from [(wait, on(pitch, random.integers(3))), (wait // 2, b"\x3d\x40")]
        yield from [(wait // 3, off(pitch)), (0, b"\xf0\x02\x01\xf7"), (9, b"\xb0\x40\x7f")]
    yield END


LONG = track(*some_events())
SEEDS = [
    file(LONG, kind=0),
    file(ONE, LONG, ONE),
    file(ONE, LONG, kind=2),
    riff((b"LIST", b"odd"), (b"data", file(ONE, LONG, division=0xE728))),
]


def inner_mutant(random):
    """A file whose track is as long as it says, and damaged inside."""
    data = mutant(LONG[8:], random)
    return file(b"MTrk" + struct.pack(">I", len(data)) + data, ONE)


def fuzz(path, count):
    """Reads `count` mutants; how many were read to their end, and refused."""
    random = np.random.default_rng(0)
    refusals = []
    for turn in range(count):
        inner = turn % 5 > 2
        put(path, inner_mutant(random) if inner else mutant(SEEDS[turn % len(SEEDS)], random))
        try:
            found = list(read_midi(path, 2, 55, 65))
        except BadFileError as error:
            refusals.append(str(error))
        else:
            assert found
            assert all(0 < len(r.observation) <= MAX_STEPS for r in found)
            assert all(r.observation[-1].any() for r in found)
    assert all(str(path) in refusal and "\n" not in refusal for refusal in refusals)
    return count - len(refusals), len(refusals)


@pytest.mark.filterwarnings("error")
def test_a_damaged_file_is_read_or_refused(tmp_path, capfd):
    read, refused = fuzz(tmp_path / "mutant.mid", 1500)
    assert read > 100
    assert refused > 1000
    assert tuple(capfd.readouterr()) == ("", "")
