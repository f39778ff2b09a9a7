#!/usr/bin/env python3
"""Random inputs for the example programs, to compare them with the reference programs.

Modes:
    words | access-log | sensors | smoke | switches
        one file of that format, of --lines lines; by default well-formed LF lines
    words --gigabytes G
        the same text, but at least G * 10^9 bytes of it, fast (1 GB takes seconds); the words are
        drawn from a pool of lines, and one line in fifty bears a word that occurs only once
    suite FOLDER
        a folder of small files for each format: typical, empty, one line, blank lines, only CR LF,
        mixed endings, no newline at the end, CR LF without LF at the end, many malformed lines,
        nothing but malformed lines, very long lines

The options --malformed, --crlf, --long-lines and --no-final-newline add to a file what the suite
shows one by one. Malformed lines are made from good ones by small accidents (cut, doubled, changed
bytes) and from a list of known traps; some happen to stay well-formed, so let the reference count.

Times begin at 2024-03-01T12:00:00Z and grow by --step-ms on average; a line is out of order by at
most --disorder-ms. Temperatures are multiples of a quarter, so sums of 64-bit floats are exact and
averages do not depend on the order in which they were added. No two readings of a sensor have the
same time, unless an accident makes it so. The same arguments write the same bytes.
"""

import argparse
import os
import sys
from datetime import datetime, timedelta, timezone

from dice import Dice, zipf

START_MS = 1_709_294_400_000  # 2024-03-01T12:00:00Z
LONG_LINE_BYTES = 1 << 20
POOL_LINES = 200_000
BLOCK_LINES = 20_000
UNIQUE_WORD_EVERY = 50
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class Words:
    suffix = "txt"
    traps = [b"caf\xe9 latin-1 line", b"\xff\xfe", b"cut \xe2\x82", b"nul \x00 is a letter", b"tab\tvt\x0bff\x0cend",
             "no-break\u00a0space is a letter".encode(), b"\xed\xa0\x80 surrogate"]

    def __init__(self, dice, options):
        self.dice = dice
        self.vocabulary = zipf(vocabulary(dice, options.vocabulary), 1.05)

    def line(self, length=0):
        """A line of about 2 to 20 words, or of at least so many bytes."""
        dice, words, size = self.dice, [], 0
        count = dice.integer(2, 20)
        while len(words) < count or size < length:
            words.append(self.vocabulary.draw(dice))
            size += len(words[-1]) + 1
        separator = b"  " if dice.chance(0.01) else b"\t" if dice.chance(0.01) else b" "
        return separator.join(words)

    def long_line(self, number):
        return self.line(LONG_LINE_BYTES) if number % 2 == 0 else b"x" * LONG_LINE_BYTES


class TimedLines:
    """Formats whose lines have a time."""

    def __init__(self, dice, options):
        self.dice, self.step_ms, self.disorder_ms = dice, options.step_ms, options.disorder_ms
        self.now = START_MS

    def next_time(self):
        """Times before `now` by at most the disorder, where `now` is close to the largest so far."""
        self.now += int(self.dice.exponential(self.step_ms))
        return max(START_MS, self.now - self.dice.integer(0, self.disorder_ms))

    def line(self):
        return self.text(self.next_time())


class AccessLog(TimedLines):
    suffix = "log"
    traps = [
        b'- - - [01/Mar/2024:12:00:00 +0000] "GET / HTTP/1.1" 200 -',  # well-formed, like some below
        b'h - - [29/Feb/2023:12:00:00 +0000] "GET /a HTTP/1.1" 200 1', b'h - - [31/Apr/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:60 +0000] "GET /a HTTP/1.1" 200 1', b'h - - [01/mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:00 +2400] "GET /a HTTP/1.1" 200 1', b'h - - [01/Mar/2024:12:00:00 -2359] "GET /a HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:00 0000] "GET /a HTTP/1.1" 200 1', b'h - - [31/Dec/1969:23:59:59 +0000] "GET /a HTTP/1.1" 200 1',
        b'h - - [00/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1', b'h - - [01/Mar/0000:12:00:00 +0000] "GET /a HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 099 1', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 600 1',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 -1', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1234567890123456',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 999999999999999', b'h - - [01/Mar/2024:12:00:00 +0000] "GET ?a HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a?b?c HTTP/2" 200 1', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.10" 200 1',
        b'h - - [01/Mar/2024:12:00:00 +0000] "get /a HTTP/1.1" 200 1', b'h - - [01/Mar/2024:12:00:00 +0000] "GET  /a HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1 ', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1 "r"',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1 "" ""', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1 "r" "a" "x"',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a\\" HTTP/1.1" 200 1', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a\\\\" HTTP/1.1" 200 1',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a\\ HTTP/1.1" 200 1', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1 "\\" "a"',
        b'h - - [01/Mar/2024:12:00:00 +0000] "GET /a HTTP/1.1" 200 1 "\\\\" "\\"a\\""', b'h - - [01/Mar/2024:12:00:00 +0000] "GET /\t HTTP/1.1" 200 1',
        "h\u00a0h - - [01/Mar/2024:12:00:00 +0000] \"GET /caf\u00e9 HTTP/1.1\" 200 1".encode(),
        "h - - [01/Mar/2024:12:00:00 +0000] \"GET /a HTTP/1.1\" 2\u0660\u0660 1".encode(),
    ]
    clients = zipf([f"198.51.100.{n}" for n in range(150)] + [f"2001:db8::{n:x}" for n in range(60)] + ["host.example"], 0.8)
    paths = zipf(["/", r"/quo\"ted", "/caf%C3%A9", "/ä/ö"] + [f"/path/{n}" for n in range(36)], 1.0)
    queries = ["", "", "", "?", "?a=b", "?q=/x?y", r"?q=\"z\""]
    sizes = ["-", "0", "000017"]
    zones = [0, 60, -480, 330, 765, -1]
    quoted = ["-", "", "https://example.com/", r"said \"hi there\"", r"back\\slash", "Mozilla/5.0 (X11; Ünïx)"]

    def text(self, moment, path=None):
        dice = self.dice
        path = path or self.paths.draw(dice) + dice.choice(self.queries)
        size = dice.choice(self.sizes) if dice.chance(0.1) else str(dice.integer(1, 100_000))
        method, protocol = dice.choice(["GET", "GET", "POST", "M-SEARCH"]), dice.choice(["HTTP/1.1", "HTTP/2.0", "HTTP/3"])
        text = (f"{self.clients.draw(dice)} - {dice.choice(['-', '-', 'user'])} [{log_date(moment, dice.choice(self.zones))}] "
                f'"{method} {path} {protocol}" {dice.choice([200, 200, 200, 304, 404, 500, 100, 599])} {size}')
        if dice.chance(0.5):
            text += f' "{dice.choice(self.quoted)}" "{dice.choice(self.quoted)}"'
        return text.encode("utf-8")

    def long_line(self, number):
        return self.text(self.next_time(), "/" + "long/" * (LONG_LINE_BYTES // 5))


class Sensors(TimedLines):
    suffix = "csv"
    traps = [b"s,1709294400000", b"s,1709294400000,1,2", b",1709294400000,1", b"s,-1,1", b"s,+1,1", b"s,1.0,1", b"s, 1,1", b"s,1,",
             b"s,1,nan", b"s,1,inf", b"s,1,-Infinity", b"s,1,1e999", b"s,1,0x10", b"s,1,1_0", b"s,1,1 ", b"s,1,--1", b"s,1,.",
             b"s,1,e5", b"s,1,1e", b"s,999999999999999999,1", b"s,1000000000000000000,1", b"s,18446744073709551617,1",
             b'"s",1709294400000,5.', b"s,1709294400250,+.5", b"s,1709294400500,1E1", b"s\xff,1,1",
             "s,1709294400\u0661,1".encode(), b" ,1709294400000,20", b"id,timestamp_ms,temperature"]

    def __init__(self, dice, options):
        super().__init__(dice, options)
        self.sensors, self.temperatures, self.used = options.sensors, {}, set()

    def text(self, moment, sensor=None):
        dice = self.dice
        sensor = sensor or f"sensor_{dice.integer(1, self.sensors)}"
        while (sensor, moment) in self.used:
            moment += 1
            self.now = max(self.now, moment)
        self.used.add((sensor, moment))
        quarters = self.temperatures.get(sensor, dice.integer(80, 440)) + int(dice.normal(0.3, 3.0))
        self.temperatures[sensor] = dice.integer(80, 440) if dice.chance(0.01) else min(max(quarters, 80), 440)
        return f"{sensor},{moment},{self.temperatures[sensor] / 4:.2f}".encode("utf-8")

    def long_line(self, number):
        return self.text(self.next_time(), "s" * LONG_LINE_BYTES)


class Smoke(TimedLines):
    suffix = "csv"
    traps = [b"1709294400000,low", b"1709294400000,HIGH ", b"1709294400000", b"HIGH,1709294400000", b"-1,HIGH", b"1709294400000,HIGH,1",
             b",LOW", b"1000000000000000000,LOW", b"1709294400000,", b"timestamp_ms,level"]

    def text(self, moment):
        return f"{moment},{self.dice.choice(['LOW', 'HIGH'])}".encode("utf-8")

    def long_line(self, number):
        return b"0" * LONG_LINE_BYTES + f"{self.next_time()},LOW".encode("utf-8")


class Switches(TimedLines):
    suffix = "csv"
    traps = [b"sensor_1,1709294400000", b"sensor_1,1709294400000,-1", b"sensor_1,1709294400000,1.5", b",1709294400000,1", b"sensor_1,,1000",
             b"sensor_1,1709294400000,1000000000000000000", b"sensor_1,1709294400000,1000,", b"sensor_2,1709294400000,0"]

    def __init__(self, dice, options):
        super().__init__(dice, options)
        self.sensors = options.sensors

    def text(self, moment, sensor=None):
        dice = self.dice
        sensor = sensor or f"sensor_{dice.integer(1, self.sensors + 1)}"
        return f"{sensor},{moment},{int(dice.exponential(20 * self.step_ms))}".encode("utf-8")

    def long_line(self, number):
        return self.text(self.next_time(), "s" * LONG_LINE_BYTES)


FORMATS = {"words": Words, "access-log": AccessLog, "sensors": Sensors, "smoke": Smoke, "switches": Switches}


def vocabulary(dice, size):
    """Distinct made-up words, the frequent ones short, some not ASCII, some in upper case."""
    syllables = ["ba", "ko", "ri", "ten", "us", "la", "mor", "e", "in", "sta", "vi", "dö", "ß", "ша", "水"]
    words, seen = [], set()
    while len(words) < size:
        word = "".join(dice.choice(syllables) for _ in range(dice.integer(1, 2 + len(words).bit_length() // 4)))
        word = word.capitalize() if dice.chance(0.1) else word + "," if dice.chance(0.05) else word
        word = word if word not in seen else f"{word}{len(words)}"
        seen.add(word)
        words.append(word.encode("utf-8"))
    return words


def log_date(moment, zone_minutes):
    local = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=moment // 1000, minutes=zone_minutes)
    sign, zone = "-" if zone_minutes < 0 else "+", abs(zone_minutes)
    return f"{local.day:02}/{MONTHS[local.month - 1]}/{local.year:04}:{local:%H:%M:%S} {sign}{zone // 60:02}{zone % 60:02}"


# --- malformed lines and files ------------------------------------------------------------------

ACCIDENTS = [b",", b'"', b" ", b"[", b"\\", b"\x00", b"\xff", b"\t", b"-", b"9", b"x", "é".encode(), b"\r"]


def accident(dice, line):
    """The line after something small has happened to it."""
    at, other = dice.integer(0, len(line)), dice.integer(0, len(line))
    low, high = min(at, other), max(at, other)
    kind = dice.integer(0, 5)
    if kind == 0:
        return line[:at]
    if kind == 1:
        return line[:at] + line[at + 1:]
    if kind == 2:
        return line[:at] + dice.choice(ACCIDENTS) + line[at:]
    if kind == 3:
        return line[:at] + dice.choice(ACCIDENTS) + line[at + 1:]
    if kind == 4:
        return line[:low] + line[high:]
    return b""


def random_lines(source, dice, count, malformed, long_lines):
    """Lines of the format, a share of them malformed; long ones in between."""
    every = count // long_lines if long_lines else 0
    for number in range(count):
        if malformed and dice.chance(malformed):
            yield dice.choice(source.traps) if dice.chance(0.3) else accident(dice, source.line())
        else:
            yield source.line()
        if every and number % every == 0 and number // every < long_lines:
            yield source.long_line(number // every)


def write_lines(path, lines, dice, crlf=0.0, final_newline=True):
    with open_output(path) as file:
        ending = b""
        for line in lines:
            file.write(ending)
            file.write(line)
            ending = b"\r\n" if crlf and dice.chance(crlf) else b"\n"
        if final_newline:
            file.write(ending)


def open_output(path):
    return os.fdopen(sys.stdout.fileno(), "wb", closefd=False) if path == "-" else open(path, "wb", buffering=1 << 20)


def write_gigabytes(path, source, dice, gigabytes):
    """Blocks of lines drawn from a pool: far faster than drawing words, and as good for counting."""
    pool = [source.line() for _ in range(POOL_LINES)]
    written, wanted, unique = 0, gigabytes * 10**9, 0
    with open_output(path) as file:
        while written < wanted:
            block = [pool[int(dice.random() * POOL_LINES)] for _ in range(BLOCK_LINES)]
            for at in range(0, BLOCK_LINES, UNIQUE_WORD_EVERY):
                block[at] += b" once%d" % unique
                unique += 1
            text = b"\n".join(block) + b"\n"
            file.write(text)
            written += len(text)


def write_suite(folder, seed, options):
    os.makedirs(folder, exist_ok=True)
    for name, format_class in FORMATS.items():
        for case, (count, malformed, long_lines, crlf, final_newline) in SUITE.items():
            dice = Dice(f"{seed} {name} {case}")
            source = format_class(dice, options)
            lines = random_lines(source, dice, count, malformed, long_lines)
            if case == "blank-lines":
                lines = (line if number % 3 else b"" for number, line in enumerate(lines))
            if case == "cr-at-end":
                lines = [*lines, source.line() + b"\r"]
            write_lines(os.path.join(folder, f"{name}-{case}.{format_class.suffix}"), lines, dice, crlf, final_newline)


SUITE = {  # lines, share malformed, long lines, share of CR LF, newline at the end
    "typical": (3000, 0.01, 0, 0.0, True),
    "clean": (3000, 0.0, 0, 0.0, True),
    "empty": (0, 0.0, 0, 0.0, True),
    "one-line": (1, 0.0, 0, 0.0, True),
    "one-line-no-newline": (1, 0.0, 0, 0.0, False),
    "no-final-newline": (500, 0.02, 0, 0.0, False),
    "blank-lines": (300, 0.0, 0, 0.0, True),
    "crlf": (500, 0.02, 0, 1.0, True),
    "mixed-endings": (500, 0.02, 0, 0.5, True),
    "cr-at-end": (50, 0.0, 0, 1.0, False),
    "malformed": (3000, 0.5, 0, 0.1, True),
    "only-malformed": (500, 1.0, 0, 0.0, True),
    "long-lines": (200, 0.01, 3, 0.0, True),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="|".join([*FORMATS, "suite"]))
    for name in [*FORMATS, "suite"]:
        mode = modes.add_parser(name)
        mode.add_argument("--seed", type=int, default=1, help="default 1")
        mode.add_argument("--step-ms", type=int, default=60, help="mean pause between lines (default 60)")
        mode.add_argument("--disorder-ms", type=int, default=0, help="how far lines may be out of order (default 0)")
        mode.add_argument("--sensors", type=int, default=10, help="how many sensors (default 10)")
        mode.add_argument("--vocabulary", type=int, default=50_000, help="how many distinct words (default 50000)")
        if name == "suite":
            mode.add_argument("folder", metavar="FOLDER")
            continue
        mode.add_argument("--output", default="-", metavar="FILE", help="default: standard output")
        mode.add_argument("--lines", type=int, default=10_000, help="default 10000")
        mode.add_argument("--malformed", type=float, default=0.0, metavar="SHARE", help="0 .. 1, default 0")
        mode.add_argument("--crlf", type=float, default=0.0, metavar="SHARE", help="0 .. 1, default 0")
        mode.add_argument("--long-lines", type=int, default=0, metavar="N", help="lines of 1 MiB (default 0)")
        mode.add_argument("--no-final-newline", action="store_true")
        if name == "words":
            mode.add_argument("--gigabytes", type=float, default=0.0, metavar="G", help="instead of --lines")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.mode == "suite":
        return write_suite(options.folder, options.seed, options)
    dice = Dice(options.seed)
    source = FORMATS[options.mode](dice, options)
    if options.mode == "words" and options.gigabytes > 0:
        return write_gigabytes(options.output, source, dice, options.gigabytes)
    lines = random_lines(source, dice, options.lines, options.malformed, options.long_lines)
    write_lines(options.output, lines, dice, options.crlf, not options.no_final_newline)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
