"""Odd files of every kind of data, written into folders to be learned from."""

import io
import json
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from scipy.io import savemat

Writer = Callable[[Path], Any]
RATE = 8_000
TUNE = 0.5 * np.sin(np.arange(4_000) / 9)
VERSE = "the cat sat on the mat\nthe dog sat on the log\n" * 9


def bytes_in(name: str, data: bytes) -> Writer:
    return lambda folder: (folder / name).write_bytes(data)


# Texts.

TEXTS: dict[str, bytes] = {
    "plain": VERSE.encode(),
    "UTF-8 with a mark": VERSE.encode("utf-8-sig"),
    "UTF-16 with a mark": VERSE.encode("utf-16"),
    "UTF-16, little, without": VERSE.encode("utf-16-le"),
    "UTF-16, big, without": VERSE.encode("utf-16-be"),
    "UTF-16, odd": VERSE.encode("utf-16") + b"a",
    "UTF-32 with a mark": VERSE.encode("utf-32"),
    "UTF-32, without": VERSE.encode("utf-32-le"),
    "Latin-1": (VERSE + "Käse, Öl\n").encode("latin-1"),
    "Shift-JIS": ("猫が座った。\n" * 50).encode("shift-jis"),
    "binary": bytes(np.random.default_rng(0).integers(0, 256, 5_000, np.uint8)),
    "empty": b"",
    "a mark alone": b"\xef\xbb\xbf",
    "one character": b"a",
    "two characters": b"ab",
    "the same character": b"a" * 5_000,
    "blanks": b" \n\t\r\n" * 500,
    "one long line": b"ab c" * 2_500_000,
    "NULs": bytes(5_000),
    "some NULs": VERSE.encode() + bytes(9) + VERSE.encode(),
    "old Mac's lines": VERSE.replace("\n", "\r").encode(),
    "surrogates": VERSE.encode() + b"\xed\xa0\x80" + VERSE.encode(),
    "emoji": ("👩‍👩‍👧‍👦🏳️‍🌈é́" * 200).encode(),
    "20,000 characters": "".join(map(chr, range(1, 20_000))).encode(),
    "cut in a character": VERSE.encode() + "ä".encode()[:1],
}

# Sounds.


def sound(name: str, samples: Any = TUNE, rate: int = RATE, **options: Any) -> Writer:
    return lambda folder: soundfile.write(folder / name, samples, rate, **options)


def wav(data: bytes = b"", bits: int = 16, channels: int = 1, code: int = 1, rate: int = RATE):
    """The bytes of a .wav whose header says this."""
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", code, channels, rate, rate * block % 2**32, block, bits)
    chunks = (
        b"fmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(data)) + data
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def encoded(format: str, subtype: str | None = None, samples: Any = TUNE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=format, subtype=subtype)
    return file.getvalue()


def spoilt(value: float) -> np.ndarray:
    return np.where(np.arange(len(TUNE)) % 500 == 7, value, TUNE).astype(np.float32)


def many_channels(folder: Path) -> None:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((8, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.repeat(TUNE[:, None], 8, 1) * 2**14).astype("<i2").tobytes())


PCM = (TUNE * 2**14).astype("<i2").tobytes()
SOUNDS: dict[str, Writer] = {
    **{
        f"{format} {subtype}".strip(): bytes_in(f"a.{format.lower()}", encoded(format, subtype))
        for format, subtypes in {
            "WAV": ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ALAW", "ULAW", "IMA_ADPCM"],
            "AIFF": ["PCM_16", "FLOAT", "ALAW"],
            "AU": ["PCM_16", "ULAW"],
            "CAF": ["PCM_16", "ALAC_16"],
            "FLAC": ["PCM_S8", "PCM_24"],
            "OGG": ["VORBIS", "OPUS"],
            "MP3": ["MPEG_LAYER_III"],
        }.items()
        for subtype in subtypes
    },
    "MS ADPCM": bytes_in("a.wav", encoded("WAV", "MS_ADPCM")),
    "GSM": bytes_in("a.wav", encoded("WAV", "GSM610")),
    "RF64": bytes_in("a.wav", encoded("RF64", "PCM_16")),
    "Wave64": bytes_in("a.wav", encoded("W64", "PCM_16")),
    "an MP3 called wav": bytes_in("a.wav", encoded("MP3")),
    "a wav called flac": bytes_in("a.flac", encoded("WAV")),
    **{
        f"cut {format}": bytes_in(f"a.{format.lower()}", encoded(format)[:cut])
        for format in ("WAV", "AIFF", "FLAC", "OGG", "MP3")
        for cut in (900,)
    },
    **{
        f"header of {format}": bytes_in(f"a.{format.lower()}", encoded(format)[:44])
        for format in ("WAV", "AIFF", "FLAC", "OGG", "MP3")
    },
    **{
        f"nothing in {format}": bytes_in(f"a.{format.lower()}", encoded(format, samples=TUNE[:0]))
        for format in ("WAV", "AIFF", "FLAC", "OGG")
    },
    "one sample": sound("a.wav", TUNE[:1]),
    "silence": sound("a.wav", np.zeros(4_000)),
    "nan": sound("a.wav", spoilt(np.nan), subtype="FLOAT"),
    "infinite": sound("a.wav", spoilt(np.inf), subtype="FLOAT"),
    "too loud": sound("a.wav", 1e6 * TUNE.astype(np.float32), subtype="FLOAT"),
    "huge": sound("a.wav", 1e300 * TUNE, subtype="DOUBLE"),
    "8 channels": many_channels,
    "0 channels": bytes_in("a.wav", wav(PCM, channels=0)),
    "0 bits": bytes_in("a.wav", wav(PCM, bits=0)),
    "12 bits": bytes_in("a.wav", wav(PCM, bits=12)),
    "0 a second": bytes_in("a.wav", wav(PCM, rate=0)),
    "1 a second": bytes_in("a.wav", wav(PCM, rate=1)),
    "4 billion a second": bytes_in("a.wav", wav(PCM, rate=2**32 - 1)),
    "unknown code": bytes_in("a.wav", wav(PCM, code=0x7777)),
    "an odd byte": bytes_in("a.wav", wav(PCM[:-1])),
    "text": bytes_in("a.wav", VERSE.encode()),
    "empty": bytes_in("a.wav", b""),
    "nothing that is sound": bytes_in("a.txt", b"hello"),
}

# Music.

ON, OFF = bytes([0x90, 64, 64]), bytes([0x80, 64, 0])
END = b"\x00\xff\x2f\x00"
NOTES = b"".join(b"\x00" + ON[:1] + bytes([60 + n % 9, 64]) + b"\x60" + OFF for n in range(60))
RUNNING = b"\x00" + ON + b"".join(b"\x30" + bytes([60 + n % 9, 64 * (n % 2)]) for n in range(90))


def track(data: bytes, size: int | None = None) -> bytes:
    return b"MTrk" + struct.pack(">I", len(data) if size is None else size) + data


def score(*tracks: bytes, kind: int = 1, division: int = 96, count: int | None = None) -> bytes:
    count = len(tracks) if count is None else count
    return b"MThd" + struct.pack(">IHHH", 6, kind, count, division) + b"".join(tracks)


ONE = track(NOTES + END)
ROLL = np.random.default_rng(0).random((60, 88)) < 0.1
SCORES: dict[str, Writer] = {
    name: bytes_in("a.mid", data)
    for name, data in {
        "format 0": score(ONE, kind=0),
        "format 1": score(ONE, ONE),
        "format 2": score(ONE, ONE, kind=2),
        "format 3": score(ONE, kind=3),
        "format 0 of two": score(ONE, ONE, kind=0),
        "RIFF": b"RIFF\0\0\0\0RMIDdata" + struct.pack("<I", len(score(ONE))) + score(ONE),
        "RIFF without MIDI": b"RIFF\x04\0\0\0WAVE",
        "SMPTE": score(ONE, division=0xE728),
        "SMPTE of 29": score(ONE, division=0xE328),
        "SMPTE of 7": score(ONE, division=0xF928),
        "no division": score(ONE, division=0),
        "a tick a beat": score(ONE, division=1),
        "cut": score(ONE)[:200],
        "header": score(ONE)[:14],
        "half a header": score(ONE)[:9],
        "no tracks": score(),
        "more tracks than there are": score(ONE, count=900),
        "a track too long": score(track(NOTES, 2**31)),
        "without an end": score(track(NOTES)),
        "running status": score(track(RUNNING + END)),
        "runs from nothing": score(track(b"\x00\x40\x40" + END)),
        "runs for ever": score(track(b"\x00" + ON + b"\x00" * 200_000)),
        "waits for ever": score(track(b"\xff" * 200_000)),
        "a long wait": score(track(b"\xff\xff\xff\x7f" + ON + b"\xff\xff\xff\x7f" + OFF + END)),
        "no notes": score(track(END)),
        "drums alone": score(track(b"\x00\x99\x40\x40\x60\x89\x40\x00" + END)),
        "notes that never end": score(
            track(b"\x00" + ON + b"\x60" + ON + b"\x60\xff\x01\x00" + END)
        ),
        "all notes at once": score(
            track(b"".join(b"\x00\x90" + bytes([n, 9]) for n in range(128)) + b"\x60" + OFF + END)
        ),
        "one note": score(track(b"\x00" + ON + b"\x60" + OFF + END)),
        "a sysex without end": score(track(b"\x00\xf0\x7f" + b"\x01" * 30)),
        "empty": b"",
        "text": VERSE.encode(),
    }.items()
} | {
    "roll": lambda folder: np.savez(folder / "a.npz", train=ROLL),
    "rolls of objects": lambda folder: np.savez(
        folder / "a.npz", train=np.array([ROLL, None], object)
    ),
    "roll of floats": lambda folder: np.savez(folder / "a.npz", train=ROLL * 0.5),
    "roll of nan": lambda folder: np.savez(folder / "a.npz", train=np.full((30, 88), np.nan)),
    "roll of three": lambda folder: np.savez(folder / "a.npz", train=np.ones((3, 30, 88, 2))),
    "roll of none": lambda folder: np.savez(folder / "a.npz"),
    "json of lists": lambda folder: (folder / "a.json").write_text(
        json.dumps({"train": [[[60, 64], [], [62]] * 20], "valid": [[[60]] * 20]})
    ),
    "json of words": lambda folder: (folder / "a.json").write_text('{"train": "tune"}'),
    "json of numbers": lambda folder: (folder / "a.json").write_text("[1, 2, 3]"),
    "json nested": lambda folder: (folder / "a.json").write_text("[" * 100_000),
    "json of nan": lambda folder: (folder / "a.json").write_text('{"train": [[[NaN, 1e999]]]}'),
    "json of huge notes": lambda folder: (folder / "a.json").write_text(
        '{"train": [[[1' + "0" * 5_000 + "]]]}"
    ),
    "mat": lambda folder: savemat(folder / "a.mat", {"traindata": np.array([ROLL], object)}),
    "mat of words": lambda folder: savemat(folder / "a.mat", {"traindata": "tune"}),
    "mat of nothing": lambda folder: savemat(folder / "a.mat", {}),
    "mat that is none": bytes_in("a.mat", VERSE.encode()),
    "mat of HDF5": bytes_in(
        "a.mat", b"MATLAB 7.3 MAT-file" + bytes(105) + b"\x00\x02IM" + bytes(99)
    ),
}

# Drawings.

random = np.random.default_rng(1)
LINES = np.column_stack([random.integers(-9, 9, (40, 2)), random.random(40) < 0.2]).astype(
    np.int16
)
XML = "<WhiteboardCaptureSession>{}</WhiteboardCaptureSession>"


def arrays(**given: Any) -> Writer:
    return lambda folder: np.savez(folder / "a.npz", **given)


def objects(*given: Any) -> np.ndarray:
    found = np.empty(len(given), object)
    found[:] = [value.copy() for value in given]  # numpy remembers those that are the same
    return found


def zipped(name: str, data: bytes) -> Writer:
    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / "a.npz", "w") as file:
            file.writestr(name, data)

    return write


STROKES: dict[str, Writer] = {
    "drawings": arrays(train=objects(*[LINES] * 4)),
    "one drawing": arrays(train=objects(LINES)),
    "plain arrays": arrays(a=LINES, b=LINES),
    "lines of nan": arrays(train=objects(*[LINES * np.nan] * 4)),
    "infinite lines": arrays(train=objects(*[np.full((40, 3), np.inf)] * 4)),
    "huge lines": arrays(train=objects(*[LINES * 1e300] * 4)),
    "lines that stand still": arrays(train=objects(*[LINES * 0] * 4)),
    "lines of 7 columns": arrays(train=objects(*[np.ones((9, 7))] * 4)),
    "lines of words": arrays(train=objects(*[np.full((9, 3), "a")] * 4)),
    "lines of complex numbers": arrays(train=objects(*[LINES * 1j] * 4)),
    "lines without rows": arrays(train=objects(*[LINES[:0]] * 4)),
    "lines of one row": arrays(train=objects(*[LINES[:1]] * 4)),
    "numbers": arrays(train=np.arange(9)),
    "one number": arrays(train=np.array(3)),
    "None": arrays(train=np.array(None, object)),
    "dicts": arrays(train=objects({"a": 1}, {})),
    "pens of 7": arrays(train=objects(*[LINES * [1, 1, 7]] * 4)),
    "nothing": arrays(),
    "no array in it": zipped("train.npy", b"\x93NUMPY"),
    "another file in it": zipped("train.txt", b"hello"),
    "a path in it": zipped("../../train.npy", b"hello"),
    "a claim": zipped(
        "train.npy",
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 3)}"
        + b" " * 40
        + b"\n",
    ),
    "text": bytes_in("a.npz", VERSE.encode()),
    "empty": bytes_in("a.npz", b""),
    "a mat": bytes_in("a.mat", VERSE.encode()),
    "a json": bytes_in("a.json", b"[[1, 2, 3]]"),
    "xml of nothing": bytes_in("a.xml", XML.format("").encode()),
    "xml cut": bytes_in("a.xml", XML.format("")[:30].encode()),
    "xml of another kind": bytes_in("a.xml", b"<svg><path d='M 0 0'/></svg>"),
    "xml of odd points": bytes_in(
        "a.xml",
        XML.format(
            '<StrokeSet><Stroke><Point x="a" y="" time="nan"/></Stroke></StrokeSet>'
        ).encode(),
    ),
    "xml of far points": bytes_in(
        "a.xml",
        XML.format(
            '<StrokeSet><Stroke><Point x="1e999" y="1" time="0"/><Point x="9" y="1" time="0"/>'
            "</Stroke></StrokeSet>"
        ).encode(),
    ),
    "xml nested": bytes_in("a.xml", b"<a>" * 100_000),
    "xml in UTF-16": bytes_in("a.xml", XML.format("").encode("utf-16")),
    "xml empty": bytes_in("a.xml", b""),
}

# Images.

PICTURE = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)
PICTURES = np.random.default_rng(3).integers(0, 256, (24, 16, 16, 3), np.uint8)


def array(value: Any) -> Writer:
    return lambda folder: np.save(folder / "a.npy", value)


def pictures(suffix: str, mode: str = "RGB", number: int = 20, **options: Any) -> Writer:
    def write(folder: Path) -> None:
        for name in range(number):
            picture = Image.fromarray(PICTURES[name % len(PICTURES)]).convert(mode)
            picture.save(folder / f"{name}.{suffix}", **options)

    return write


def among_good(name: str, data: bytes) -> Writer:
    """One odd file among good ones."""

    def write(folder: Path) -> None:
        pictures("png")(folder)
        (folder / name).write_bytes(data)

    return write


def image_bytes(suffix: str, picture: Any = PICTURE, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, suffix, **options)
    return file.getvalue()


def deep(folder: Path) -> None:
    for name in range(20):
        values = np.random.default_rng(name).integers(0, 2**16, (16, 16), np.uint16)
        Image.fromarray(values).save(folder / f"{name}.png")


def animated(folder: Path) -> None:
    for name in range(20):
        first, *more = (Image.fromarray(picture) for picture in PICTURES[:3])
        first.save(folder / f"{name}.gif", save_all=True, append_images=more)


BLACK = np.zeros((24, 16, 16, 3), np.uint8)
IMAGES: dict[str, Writer] = {
    "channels last": array(PICTURES),
    "channels first": array(PICTURES.transpose(0, 3, 1, 2)),
    "channels nowhere": array(PICTURES[..., 0]),
    "two channels": array(PICTURES[..., :2]),
    "four channels": array(PICTURES[..., [0, 1, 2, 0]]),
    "nine channels": array(np.tile(PICTURES, 3)),
    "floats to 1": array(PICTURES / 255),
    "floats to 255": array(PICTURES * 1.0),
    "half floats": array((PICTURES / 255).astype(np.float16)),
    "floats from -1": array(PICTURES / 127.5 - 1),
    "floats of nan": array(PICTURES * np.nan),
    "16 bits": array(PICTURES.astype(np.uint16) * 257),
    "32 bits": array(PICTURES.astype(np.int32)),
    "64 bits, negative": array(PICTURES.astype(np.int64) - 100),
    "truth values": array(PICTURES > 99),
    "big-endian": array((PICTURES / 255).astype(">f4")),
    "Fortran's order": array(np.asfortranarray(PICTURES)),
    "complex": array(PICTURES * 1j),
    "words": array(np.full((24, 16, 16), "a")),
    "objects": array(objects(*PICTURES)),
    "dates": array(PICTURES.astype("datetime64[s]")),
    "structures": array(np.zeros((24, 16, 16), [("r", "u1"), ("g", "u1")])),
    "no images": array(PICTURES[:0]),
    "no pixels": array(PICTURES[:, :0]),
    "one image": array(PICTURES[:1]),
    "a number": array(np.array(3)),
    "one pixel": array(PICTURES[:, :1, :1]),
    "all black": array(BLACK),
    "a claim": bytes_in(
        "a.npy",
        b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 9)}"
        + b" " * 42
        + b"\n",
    ),
    "cut array": lambda folder: (
        np.save(folder / "a.npy", PICTURES),
        (folder / "a.npy").write_bytes((folder / "a.npy").read_bytes()[:3_000]),
    ),
    "archive": lambda folder: np.savez(folder / "a.npz", PICTURES),
    "archive of two": lambda folder: np.savez(folder / "a.npz", a=PICTURES, b=PICTURES),
    "archive of none": lambda folder: np.savez(folder / "a.npz"),
    "png": pictures("png"),
    "grey": pictures("png", "L"),
    "palette": pictures("png", "P"),
    "1 bit": pictures("png", "1"),
    "transparent": pictures("png", "RGBA"),
    "grey and transparent": pictures("png", "LA"),
    "16 bits a pixel": deep,
    "CMYK": pictures("jpg", "CMYK"),
    "YCbCr": pictures("jpg", "YCbCr"),
    "progressive": pictures("jpg", progressive=True),
    "gif": pictures("gif"),
    "animated gif": animated,
    "bmp": pictures("bmp"),
    "tiff": pictures("tiff"),
    "webp": pictures("webp"),
    "few": pictures("png", number=2),
    "sizes differ": among_good("z.png", image_bytes("png", PICTURE[:8])),
    "grey among colours": among_good("z.png", image_bytes("png", PICTURE, "L")),
    "a gif among others": among_good("z.gif", image_bytes("gif")),
    "cut jpg among others": among_good("z.jpg", image_bytes("jpeg")[:300]),
    "cut png among others": among_good("z.png", image_bytes("png")[:300]),
    "a header among others": among_good("z.png", image_bytes("png")[:30]),
    "empty among others": among_good("z.jpg", b""),
    "text among others": among_good("z.jpg", VERSE.encode()),
    "a webp called png": among_good("z.png", image_bytes("webp")),
    "one pixel among others": among_good("z.png", image_bytes("png", PICTURE[:1, :1])),
    "a line": lambda folder: np.save(folder / "a.npy", np.zeros((2, 50_000, 1, 1), np.uint8)),
    "a line of a png": bytes_in("a.png", image_bytes("png", np.zeros((50_000, 1), np.uint8), "L")),
    "a bomb": among_good("z.png", image_bytes("png", np.zeros((20_000, 20_000), bool), "1")),
    "nothing": lambda folder: None,
}

KINDS: dict[str, dict[str, Writer]] = {
    "text": {name: bytes_in("a.txt", data) for name, data in TEXTS.items()},
    "audio": SOUNDS,
    "midi": SCORES,
    "strokes": STROKES,
    "vae": IMAGES,
}
"""Writers of odd files, by the kind of `worldmodel train` and by name."""
