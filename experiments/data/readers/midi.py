"""MIDI files as piano rolls, and piano rolls as MIDI files.

A Standard MIDI File (Standard MIDI Files 1.0, MIDI Manufacturers Association 1988, RP-001) is a
header and tracks of events, each of which waits some ticks for the one before. It is parsed
here, because only the notes are needed, and those exactly, and libraries read less: neither mido
1.3 nor symusic 0.6 reads RIFF or SMPTE times; mido loses the ticks before meta events that it does
not know, and refuses chunks that are no tracks and keys that there are not; symusic drops notes
that nothing ends or that take no time, and does not notice that tracks are missing.

A piano roll is a boolean array [T, P]: true where pitch `low` + j sounds in step t.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from worldmodel.experiments.data.readers.files import BadFileError, Recording, contents
from worldmodel.files import writing

MIDI_SUFFIXES = (".mid", ".midi", ".rmi", ".kar")
MAX_BYTES = 2**23  # of a file; an hour of piano has less than 2**20
MAX_STEPS = 2**18  # of a recording: nine hours of sixteenth notes at 120 beats a minute
DRUMS = 9  # "channel 10", counted from 0
VELOCITY = 80  # of every note that is written
TICKS = 480  # a quarter note, about, in files that are written
# frames a second, by SMPTE's numbers for them
FRAMES = {24: Fraction(24), 25: Fraction(25), 29: Fraction(30_000, 1_001), 30: Fraction(30)}

NOTE_OFF, NOTE_ON = 0x8, 0x9  # the upper half of a status byte; the lower is the channel
ONE_OPERAND = (0xC, 0xD)  # program change and channel pressure; all others have two
META, SYSTEM_EXCLUSIVE, END_OF_TRACK, SET_TEMPO = 0xFF, (0xF0, 0xF7), 0x2F, 0x51

Note = tuple[int, int, int]  # pitch, begin, end (the first tick or step without it)


def read_midi(path: Path, steps_per_beat: int, low: int, high: int) -> Iterator[Recording]:
    """The piano roll of a file, bool [T, high - low + 1], `steps_per_beat` steps a quarter note.

    Begin and end of a note are rounded to the next step (halves up), and it has at least one:
    what lies on the grid comes as it is, what was played a little early or late goes where it was
    meant to. The first step is tick 0, as in the sets of Boulanger-Lewandowski et al. 2012, so
    that beats stay where they are; the last is the last with a note. All channels but the drums'
    are one; pedals are ignored; notes out of low..high are left out. A note-off ends all notes of
    its pitch, channel and track (but those struck again at its very tick), the end of the track
    those that nothing ends. In files of format 2 each track is a recording. A file that counts in
    seconds (SMPTE) has no beats, and is taken to have 120 a minute. The file may lie in a RIFF
    file (.rmi).

    Raises BadFileError for a damaged file, one without notes in low..high, or one of more than
    `MAX_STEPS` steps.
    """
    kind, ticks_per_beat, tracks = _chunks(path, _unwrapped(contents(path, MAX_BYTES)))
    notes = [_notes(path, number, track) for number, track in enumerate(tracks, 1)]
    parts = {str(path): [note for track in notes for note in track]}
    if kind == 2:
        parts = {f"{path} track {number}": track for number, track in enumerate(notes, 1)}
    found = False
    for name, all_pitches in parts.items():
        chosen = [note for note in all_pitches if low <= note[0] <= high]
        if chosen:
            found = True
            yield Recording(_roll(name, chosen, steps_per_beat, ticks_per_beat, low, high), name)
    if not found:
        pitches = [pitch for track in notes for pitch, _, _ in track]
        got = f"only {min(pitches)} to {max(pitches)}" if pitches else "none (drums do not count)"
        raise BadFileError(
            f"{path} expects notes of the pitches {low} to {high}, got {got}; leave it out, or "
            "take other pitches"
        )


def write_midi(
    path: Path, roll: np.ndarray, low: int, steps_per_beat: int, tempo: float = 120.0
) -> None:
    """Writes a file of one track (format 0). A pitch in consecutive steps is one note.

    roll: bool [T, P]; tempo: quarter notes a minute, 4 or more. `read_midi` gives the same roll,
    but for silence at its end.
    """
    if not 0 <= low <= low + roll.shape[1] <= 128:
        raise ValueError(
            f"MIDI has the pitches 0 to 127, got {low} to {low + roll.shape[1] - 1}; choose others"
        )
    step = max(1, TICKS // steps_per_beat)  # in ticks
    changes = sorted(
        event
        for column, begin, end in notes_of(roll)
        for event in ((end, NOTE_OFF, column), (begin, NOTE_ON, column))
    )
    microseconds = round(60e6 / tempo)
    track = bytearray([0, META, SET_TEMPO, 3, *microseconds.to_bytes(3, "big")])
    before = 0
    for time, kind, column in changes:  # at the same time, notes end before others begin
        track += _coded((time - before) * step)
        track += bytes([kind << 4, low + column, VELOCITY])
        before = time
    track += _coded((len(roll) - before) * step) + bytes([META, END_OF_TRACK, 0])
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, step * steps_per_beat)
    with writing(path) as part:
        part.write_bytes(header + struct.pack(">4sI", b"MTrk", len(track)) + track)


def notes_of(roll: np.ndarray) -> Iterator[Note]:
    """Notes (column, begin, end) of pitches in consecutive steps, column by column.

    >>> list(notes_of(np.array([[1, 0], [1, 1], [0, 1]], bool)))
    [(0, 0, 2), (1, 1, 3)]
    """
    edges = np.diff(roll.T.astype(np.int8), axis=1, prepend=0, append=0)  # [P, T + 1]
    columns, begins = np.nonzero(edges > 0)
    _, ends = np.nonzero(edges < 0)
    yield from zip(columns.tolist(), begins.tolist(), ends.tolist(), strict=True)


def _roll(
    name: str,
    notes: list[Note],
    steps_per_beat: int,
    ticks_per_beat: int | Fraction,
    low: int,
    high: int,
) -> np.ndarray:
    """The piano roll, bool [T, high - low + 1], of notes whose times are ticks."""
    times = [time for _, begin, end in notes for time in (begin, end)]
    steps = [
        (2 * time * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat) for time in times
    ]
    length = max(max(steps), max(steps[::2]) + 1)
    if length > MAX_STEPS:
        raise BadFileError(
            f"{name} expects at most {MAX_STEPS} steps, got {length}; "
            "cut it into pieces, or take fewer steps a beat"
        )
    begins, ends = np.array(steps).reshape(-1, 2).T
    columns = np.array([pitch - low for pitch, _, _ in notes])
    change = np.zeros((length + 1, high - low + 1), np.int32)
    np.add.at(change, (begins, columns), 1)
    np.subtract.at(change, (np.maximum(ends, begins + 1), columns), 1)
    return np.cumsum(change[:-1], axis=0, dtype=np.int32) > 0


def _unwrapped(data: bytes) -> bytes:
    """The MIDI file in a RIFF file, or the data as they are."""
    at = 12
    while data[:4] == b"RIFF" and data[8:12] == b"RMID" and at + 8 <= len(data):
        name, size = struct.unpack("<4sI", data[at : at + 8])
        if name == b"data":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return data


def _chunks(path: Path, data: bytes) -> tuple[int, int | Fraction, list[bytes]]:
    """The format, the ticks per quarter note, and the bytes of each track."""
    if data[:4] != b"MThd" or len(data) < 14:
        raise BadFileError(
            f"{path} expects a MIDI file, which begins with MThd, got {data[:4]!r}; convert it"
        )
    size, kind, count, division = struct.unpack(">IHHH", data[4:14])
    if kind > 2 or not count:
        raise BadFileError(
            f"{path} expects a format of 0, 1 or 2 and one track or more, got format {kind} and "
            f"{count} tracks; it is damaged, export it anew"
        )
    ticks: int | Fraction = division
    if division >= 0x8000:  # SMPTE: minus the frames a second, and the ticks of each
        ticks = FRAMES.get(256 - (division >> 8), Fraction(0)) * (division & 0xFF) / 2
    if not ticks:
        raise BadFileError(
            f"{path} expects times in ticks a quarter note, or in fractions of a second (SMPTE), "
            f"got the division 0x{division:04x}; it is damaged, export it anew"
        )
    tracks: list[bytes] = []
    at = 8 + size
    while len(tracks) < count:
        name, size = struct.unpack(">4sI", data[at : at + 8].ljust(8, b"\xff"))
        if at + 8 + size > len(data):
            raise BadFileError(
                f"{path} expects {count} tracks, got {len(tracks)} whole ones; it is cut off or "
                "damaged, export it anew"
            )
        if name == b"MTrk":  # other chunks are to be skipped
            tracks.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return kind, ticks, tracks


def _notes(path: Path, number: int, track: bytes) -> list[Note]:
    """The notes of a track, without the drums; times in ticks."""
    notes: list[Note] = []
    sounding: dict[tuple[int, int], tuple[int, int]] = {}  # struck first, and last
    time = 0
    try:
        for time, status, pitch, velocity in _events(track):
            kind, channel = divmod(status, 16)
            key = channel, pitch
            if kind not in (NOTE_ON, NOTE_OFF) or channel == DRUMS:
                continue
            if kind == NOTE_ON and velocity:
                sounding[key] = sounding.get(key, (time, time))[0], time
            elif key in sounding:
                first, last = sounding.pop(key)
                notes.append((pitch, first, time))
                if first < last == time:
                    sounding[key] = last, last
    except ValueError as error:
        raise BadFileError(
            f"{path} is damaged in track {number}: {error}; export it anew"
        ) from None
    except IndexError:
        raise BadFileError(
            f"{path} is damaged in track {number}: it ends inside of an event; export it anew"
        ) from None
    return notes + [(pitch, first, time) for (_, pitch), (first, _) in sounding.items()]


def _events(track: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(tick, status, first operand, second operand) of each event; raises ValueError or
    IndexError where there is none. Meta and system events have operands of 0."""
    at = time = running = 0
    while at < len(track):
        wait, at = _number(track, at)
        time += wait
        status = running
        if track[at] >= 0x80:
            status = track[at]
            at += 1
        if status == META:
            if track[at] == END_OF_TRACK:
                yield time, META, 0, 0
                return
            at += 1
        if status == META or status in SYSTEM_EXCLUSIVE:
            size, at = _number(track, at)
            at += size
            if at > len(track):
                raise IndexError
            yield time, status, 0, 0
        elif 0x80 <= status < 0xF0:
            running = status
            first, second = track[at], 0
            at += 1
            if status >> 4 not in ONE_OPERAND:
                second = track[at]
                at += 1
            if first >= 0x80 or second >= 0x80:
                raise ValueError(f"byte {at} expects a number below 128, got another event")
            yield time, status, first, second
        else:
            raise ValueError(f"byte {at} expects an event, got 0x{status:02x}")


def _number(track: bytes, at: int) -> tuple[int, int]:
    """A number of at most four bytes, seven bits each, and where it ends."""
    value = 0
    for place in range(at, at + 4):
        value = value << 7 | track[place] & 0x7F
        if track[place] < 0x80:
            return value, place + 1
    raise ValueError(f"byte {at} expects a number of at most 4 bytes, got more")


def _coded(value: int) -> bytes:
    """Encodes a number for `_number`."""
    coded = [value & 0x7F]
    while value := value >> 7:
        coded.insert(0, value & 0x7F | 0x80)
    return bytes(coded)
