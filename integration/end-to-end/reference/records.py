"""What the reference programs share: input lines, CSV records, time, printing.

Lines
    A line ends at LF or at the end of the file; bytes after the last LF are a line unless there
    are none. One CR at the end of a line belongs to the line ending and is stripped. An empty
    file has no lines. Files whose names end in .gz are decompressed.

Inputs
    A file, a folder (all files below it, except names that start with '.' or '_'), a glob, or
    '-' for standard input. Files are read one after the other, sorted by path.

Malformed lines
    They are skipped and counted; every program ends by writing `malformed=N` to standard error.

Output
    One line a result, columns separated by tabs, lines sorted by their bytes (LC_ALL=C sort).
    Integers are plain, other numbers are printed as by '%.6f'. Times are ISO 8601 in UTC, or
    integer milliseconds since 1970-01-01T00:00:00Z with --plain.
"""

import argparse
import glob
import gzip
import os
import re
import sys
import time
from collections import namedtuple

TIME_LIMIT_MS = 10**18
"""Times and durations at or above this are malformed: sums of two stay far below 2^63."""


class Records:
    """Iterates over the well-formed records of some inputs and counts the malformed lines."""

    def __init__(self, inputs, parse):
        self.inputs, self.parse, self.malformed = inputs, parse, 0

    def __iter__(self):
        for line in lines(self.inputs):
            record = self.parse(line)
            if record is None:
                self.malformed += 1
            else:
                yield record


def lines(inputs):
    """The lines of all inputs as bytes, without their endings."""
    for path in input_files(inputs):
        with open_input(path) as file:
            for line in file:
                if line.endswith(b"\n"):
                    line = line[:-1]
                if line.endswith(b"\r"):
                    line = line[:-1]
                yield line


def input_files(inputs):
    for item in inputs:
        if item == "-" or os.path.isfile(item):
            found = [item]
        elif os.path.isdir(item):
            found = sorted(files_below(item))
        else:
            found = sorted(glob.glob(item, recursive=True))
            found = [path for path in found if not os.path.isdir(path)]
            if not found and not glob.has_magic(item):
                raise FileNotFoundError(f"no such file, folder or glob: {item}")
        yield from found


def files_below(folder):
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "._"]
        yield from (os.path.join(root, name) for name in names if name[0] not in "._")


def open_input(path):
    if path == "-":
        return sys.stdin.buffer
    if path.endswith((".zst", ".zstd")):
        raise OSError(f"{path}: cannot read zstd, decompress it first (zstd -dc {path} | … --input -)")
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb", buffering=1 << 20)


# --- CSV records of the sensor programs ---------------------------------------------------------

Reading = namedtuple("Reading", "sensor time temperature")
Smoke = namedtuple("Smoke", "time level")
Switch = namedtuple("Switch", "sensor time duration")

DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def parse_reading(line):
    """`id,timestamp_ms,temperature`, or None if the line is malformed.

    Exactly three fields separated by commas (no quoting, no trimming) in valid UTF-8; a non-empty
    id; a timestamp of ASCII digits only, below 10^18; a decimal temperature, with or without sign,
    fraction and exponent, whose value as a 64-bit float is finite.
    """
    fields = split(line, 3)
    if fields is None:
        return None
    sensor, moment, temperature = fields[0], milliseconds(fields[1]), finite(fields[2])
    if not sensor or moment is None or temperature is None:
        return None
    return Reading(sensor, moment, temperature)


def parse_smoke(line):
    """`timestamp_ms,level` with the level LOW or HIGH, or None."""
    fields = split(line, 2)
    if fields is None or milliseconds(fields[0]) is None or fields[1] not in ("LOW", "HIGH"):
        return None
    return Smoke(milliseconds(fields[0]), fields[1])


def parse_switch(line):
    """`id,timestamp_ms,duration_ms` (the duration follows the rule of timestamps), or None."""
    fields = split(line, 3)
    if fields is None:
        return None
    sensor, moment, duration = fields[0], milliseconds(fields[1]), milliseconds(fields[2])
    if not sensor or moment is None or duration is None:
        return None
    return Switch(sensor, moment, duration)


def split(line, count):
    try:
        fields = line.decode("utf-8").split(",")
    except UnicodeDecodeError:
        return None
    return fields if len(fields) == count else None


def milliseconds(text):
    # Leading zeros are cut first because Python refuses to convert thousands of digits.
    if not re.fullmatch("[0-9]+", text) or len(text.lstrip("0")) > 18:
        return None
    return int(text.lstrip("0") or "0")


def finite(text):
    if not DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if abs(value) != float("inf") else None


# --- time ---------------------------------------------------------------------------------------


class Watermark:
    """The largest time seen so far − bound − 1 ms; before the first record, and with an infinite
    bound (None), it lies before every time."""

    def __init__(self, bound_ms):
        self.bound_ms, self.time = bound_ms, -float("inf")

    def advance(self, moment):
        if self.bound_ms is not None:
            self.time = max(self.time, moment - self.bound_ms - 1)

    def passed_window(self, end):
        """Whether a window [.., end) is complete: its last millisecond is not after the watermark."""
        return end - 1 <= self.time


def window_start(moment, size_ms):
    """Start of the tumbling window, aligned to the epoch, that holds this moment."""
    return moment - moment % size_ms


def iso_seconds(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def iso_millis(ms):
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{ms % 1000:03}Z", time.gmtime(ms // 1000))


def plain(ms):
    return ms


# --- command line and printing ------------------------------------------------------------------


def argument_parser(documentation):
    """A parser whose help is the module's documentation, with the options that all programs have."""
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    return parser


def add_common_options(parser):
    parser.add_argument("--input", nargs="+", required=True, metavar="PATH",
                        help="file, folder, glob or - (standard input)")
    parser.add_argument("--plain", action="store_true",
                        help="times as integer milliseconds since the epoch instead of ISO 8601")


def natural(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def print_results(rows, *sources):
    """Prints the rows, sorted, and then how many lines of the sources were malformed.

    Rows may be a generator that reads the sources."""
    printed = sorted(b"\t".join(map(column, row)) for row in rows)
    for line in printed:
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
    print(f"malformed={sum(source.malformed for source in sources)}", file=sys.stderr)


def column(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        value = f"{value:.6f}"
    return str(value).encode("utf-8")


def run(main):
    """Runs a program's main function; reports what the user can repair in one line."""
    try:
        main()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (OSError, EOFError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
