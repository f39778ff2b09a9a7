#!/usr/bin/env python3
"""Web access logs: hits and bytes per path and minute, top paths, sessions, late lines.

Grammar of a line (Common Log Format; Combined adds the bracketed part; every line decides for
itself, a file may mix both):

    host SP ident SP authuser SP "[" date "]" SP DQ request DQ SP status SP bytes
        [ SP DQ referer DQ SP DQ agent DQ ]

    SP        exactly one space
    DQ        a double quote
    host, ident, authuser
              one or more characters other than space
    date      dd/Mon/yyyy:HH:MM:SS SP (+|-)hhmm, e.g. 29/Feb/2024:23:59:59 +0100;
              Mon is Jan .. Dec in this spelling; the day exists in that month and year; HH 00-23,
              MM and SS 00-59 (no leap seconds), hh 00-23, mm 00-59; in UTC the instant lies in the
              years 1970 .. 9999
    request   METHOD SP target SP PROTO
    METHOD    one or more of A-Z, "-" and "_"
    target    one or more characters other than space, of which the first is not "?"
    PROTO     "HTTP/" digit, optionally "." digit
    status    three digits, 100 .. 599
    bytes     "-", which means 0, or 1 to 15 digits
    referer, agent
              any characters, possibly none

    A field in double quotes ends at the first double quote that is not escaped: a backslash and the
    character after it belong to the field, whatever they are. Its text is the raw text between the
    quotes, escapes included; the request is taken apart at the spaces of that text.

A line is malformed if it is not exactly of this form, is empty, contains an ASCII control character
(below U+0020, or U+007F), or is not valid UTF-8. All letters and digits above are ASCII.

Meaning: the client is the host. The path is the target as it stands in the log (escapes and
percent signs untouched) up to the first "?". The event time is the instant of the date. Every
method and status is a hit.

Watermark and lateness: lines are judged in the order of the input, by one reader. After each
well-formed line the watermark is (largest time so far) - bound - 1 ms, with a bound of 10 s unless
--out-of-orderness-ms says otherwise. A line is late, and dropped, if the window it belongs to is
complete: the last millisecond of the window is not after the watermark as it stood before the line.
With --no-late nothing is dropped. A pipelined engine emits watermarks less often than after each
line, so with minute windows the lines that it drops are a subset of the late lines here. To compare
such a run exactly, hand its late lines to --late-from: then precisely those are left out.

Modes and their output columns:
    hits         minute (start), path, hits, bytes
    top N        minute (start), rank 1..N, path, hits: the N paths with most hits in each minute;
                 of equal hits the path that is smaller in byte order comes first; fewer than N
                 rows if the minute has fewer paths
    sessions     client, start, end, hits, bytes: windows of a client's lines with pauses of at most
                 the gap (5 min unless --gap-ms says otherwise). Start is the time of the first
                 line, end that of the last line + gap. As each line stands for [time, time + gap)
                 and windows that overlap or touch are merged, a pause of exactly the gap does not
                 split. A session that the watermark has passed is closed: a line that would have
                 extended it starts another one, or is late if its own window has been passed
    late         time, client, path, status, bytes of the late lines of minute windows, or of
                 sessions with --windows session
"""

import argparse
import re
import sys
from collections import Counter, defaultdict, namedtuple
from datetime import datetime, timedelta, timezone

import records

Hit = namedtuple("Hit", "client time path status bytes")

MINUTE_MS = 60_000
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
QUOTED = r'(?:[^"\\]|\\.)*'
LINE = re.compile(
    r"(?P<host>[^ ]+) [^ ]+ [^ ]+ "
    r"\[(?P<date>[0-9]{2}/[A-Za-z]{3}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\] "
    rf'"(?P<request>{QUOTED})" '
    r"(?P<status>[1-5][0-9]{2}) (?P<bytes>-|[0-9]{1,15})"
    rf'(?: "{QUOTED}" "{QUOTED}")?'
)
REQUEST = re.compile(r"[A-Z_-]+ (?P<path>[^ ?]+)(?:\?[^ ]*)? HTTP/[0-9](?:\.[0-9])?")
CONTROL = re.compile("[\x00-\x1f\x7f]")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_hit(line):
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    match = None if CONTROL.search(text) else LINE.fullmatch(text)
    request = REQUEST.fullmatch(match["request"]) if match else None
    moment = instant(match["date"]) if match else None
    if request is None or moment is None:
        return None
    size = 0 if match["bytes"] == "-" else int(match["bytes"])
    return Hit(match["host"], moment, request["path"], int(match["status"]), size)


def instant(date):
    """Milliseconds since the epoch of `dd/Mon/yyyy:HH:MM:SS +hhmm`, or None if there is no such instant."""
    clock, zone = date.split(" ")
    day, month, rest = clock.split("/")
    year, hour, minute, second = map(int, rest.split(":"))
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
    if month not in MONTHS or int(zone[1:3]) > 23 or int(zone[3:5]) > 59:
        return None
    try:
        local = datetime(year, MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=timezone.utc)
        utc = local - offset if zone[0] == "+" else local + offset
    except (ValueError, OverflowError):
        return None
    ms = (utc - EPOCH) // timedelta(milliseconds=1)
    return ms if ms >= 0 else None


def split_by_lateness(hits, bound_ms):
    """(hit, whether it is late for its minute) for each hit, in order."""
    watermark = records.Watermark(bound_ms)
    for hit in hits:
        end = records.window_start(hit.time, MINUTE_MS) + MINUTE_MS
        yield hit, watermark.passed_window(end)
        watermark.advance(hit.time)


def without(hits, rows, when):
    """The hits except those listed in rows (a multiset of late rows as this program prints them)."""
    left_out = Counter(rows)
    for hit in hits:
        row = b"\t".join(map(records.column, late_row(hit, when)))
        if left_out[row]:
            left_out[row] -= 1
        else:
            yield hit
    unmatched = +left_out
    if unmatched:
        sys.exit(f"access_log.py: {unmatched.total()} late lines are not in the input: {next(iter(unmatched))}")


def per_minute(hits):
    """{(minute, path): [hits, bytes]}"""
    totals = defaultdict(lambda: [0, 0])
    for hit in hits:
        total = totals[records.window_start(hit.time, MINUTE_MS), hit.path]
        total[0] += 1
        total[1] += hit.bytes
    return totals


def hits_rows(hits, when):
    for (minute, path), (count, size) in per_minute(hits).items():
        yield when(minute), path, count, size


def top_rows(hits, n, when):
    minutes = defaultdict(list)
    for (minute, path), (count, _) in per_minute(hits).items():
        minutes[minute].append((-count, path.encode("utf-8")))
    for minute, paths in minutes.items():
        for rank, (count, path) in enumerate(sorted(paths)[:n], start=1):
            yield when(minute), rank, path, -count


Session = namedtuple("Session", "client first last hits bytes")


def sessions(hits, gap_ms, bound_ms):
    """(closed sessions, late hits), by replaying the input line by line."""
    watermark, open_sessions, closed, late = records.Watermark(bound_ms), defaultdict(list), [], []
    for hit in hits:
        session, others = Session(hit.client, hit.time, hit.time, 1, hit.bytes), []
        for other in open_sessions[hit.client]:
            if watermark.passed_window(other.last + gap_ms):
                closed.append(other)
            elif other.first <= session.last + gap_ms and session.first <= other.last + gap_ms:
                session = merge(session, other)
            else:
                others.append(other)
        if watermark.passed_window(session.last + gap_ms):
            late.append(hit)
        else:
            others.append(session)
        open_sessions[hit.client] = others
        watermark.advance(hit.time)
    return closed + [session for rest in open_sessions.values() for session in rest], late


def merge(a, b):
    return Session(a.client, min(a.first, b.first), max(a.last, b.last), a.hits + b.hits, a.bytes + b.bytes)


def session_rows(hits, gap_ms, bound_ms, when):
    for session in sessions(hits, gap_ms, bound_ms)[0]:
        yield session.client, when(session.first), when(session.last + gap_ms), session.hits, session.bytes


def late_row(hit, when):
    return when(hit.time), hit.client, hit.path, hit.status, hit.bytes


def late_rows(hits, options, bound_ms, when):
    if options.windows == "session":
        late = sessions(hits, options.gap_ms, bound_ms)[1]
    else:
        late = (hit for hit, is_late in split_by_lateness(hits, bound_ms) if is_late)
    return (late_row(hit, when) for hit in late)


def minute_hits(hits, options, bound_ms, when):
    """The hits that count in minute windows."""
    if options.late_from:
        return without(hits, records.lines(options.late_from), when)
    return (hit for hit, is_late in split_by_lateness(hits, bound_ms) if not is_late)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="hits | top N | sessions | late")
    for name in ("hits", "top", "sessions", "late"):
        mode = modes.add_parser(name)
        if name == "top":
            mode.add_argument("n", type=records.positive, metavar="N", help="how many paths a minute")
        records.add_common_options(mode)
        mode.add_argument("--out-of-orderness-ms", type=records.natural, default=10_000, metavar="MS",
                          help="bound of the watermark (default 10000)")
        mode.add_argument("--no-late", action="store_true", help="drop nothing as late")
        if name in ("hits", "top"):
            mode.add_argument("--late-from", nargs="+", metavar="FILE",
                              help="leave out exactly these late lines (columns as in mode late, "
                                   "with the same choice of --plain)")
        if name in ("sessions", "late"):
            mode.add_argument("--gap-ms", type=records.positive, default=300_000, metavar="MS",
                              help="largest pause in a session (default 300000)")
        if name == "late":
            mode.add_argument("--windows", choices=("minute", "session"), default="minute")
    return parser.parse_args()


def main():
    options = parse_arguments()
    when = records.plain if options.plain else records.iso_seconds
    bound_ms = None if options.no_late else options.out_of_orderness_ms
    hits = records.Records(options.input, parse_hit)
    if options.mode == "hits":
        rows = hits_rows(minute_hits(hits, options, bound_ms, when), when)
    elif options.mode == "top":
        rows = top_rows(minute_hits(hits, options, bound_ms, when), options.n, when)
    elif options.mode == "sessions":
        rows = session_rows(hits, options.gap_ms, bound_ms, when)
    else:
        rows = late_rows(hits, options, bound_ms, when)
    records.print_results(rows, hits)


if __name__ == "__main__":
    records.run(main)
