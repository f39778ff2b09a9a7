#!/usr/bin/env python3
"""Checks of the reference programs on cases computed by hand, and of the shipped data.

Run with: python3 -m unittest -v    (in this folder)
"""

import gzip
import os
import subprocess
import sys
import tempfile
import unittest
from collections import defaultdict

import access_log
import average_temperature
import filter_switch
import fire_alert
import freezing
import make_access_log
import make_sensor_data
import records
import rising_one_second
import temp_jump_alert
import wordcount
from access_log import Hit
from dice import Dice
from records import Reading, Smoke, Switch

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "../../../api/hurtig/examples/data")


def run(script, *arguments, stdin=b""):
    """(output lines, malformed count) of a program."""
    done = subprocess.run([sys.executable, os.path.join(HERE, script), *arguments],
                          input=stdin, capture_output=True, check=True)
    name, count = done.stderr.decode().strip().split("=")
    assert name == "malformed", done.stderr
    return done.stdout.decode("utf-8").splitlines(), int(count)


class Lines(unittest.TestCase):
    def read(self, content):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.txt")
            with open(path, "wb") as file:
                file.write(content)
            with gzip.open(os.path.join(folder, "b.txt.gz"), "wb") as file:
                file.write(content)
            one, both = list(records.lines([path])), list(records.lines([folder]))
            self.assertEqual(both, one + one)
            self.assertEqual(list(records.lines([os.path.join(folder, "*.txt*")])), both)
            return one

    def test_endings(self):
        self.assertEqual(self.read(b""), [])
        self.assertEqual(self.read(b"\n"), [b""])
        self.assertEqual(self.read(b"a\nb"), [b"a", b"b"])
        self.assertEqual(self.read(b"a\r\n\r\nb\r\r\nc\rd\r"), [b"a", b"", b"b\r", b"c\rd"])


class Parsing(unittest.TestCase):
    def test_readings(self):
        good = {b"s,0,1": 1.0, b"s,1,-1.50": -1.5, b"s,1,5.": 5.0, b"s,1,+.5": 0.5, b"s,1,1e2": 100.0,
                b"s,000000000000000000000001,1": 1.0, b"\xc3\xa4 b,1,2": 2.0, b"s,999999999999999999,1": 1.0}
        for line, temperature in good.items():
            self.assertEqual(records.parse_reading(line).temperature, temperature, line)
        for line in [*make_sensor_data.MALFORMED_READINGS, b"s,1,2,", b"s,1", b",1,2", b"s,,2", b"s,+1,2", b"s,1_0,2",
                     b"s, 1,2", b"s,1, 2", b"s,1,2\r", b"s,1,.", b"s,1,e1", b"s,1,1e", b"s,1,1_0", b"s,1,nan",
                     b"s,1,infinity", b"s,1,-1e999", b"s,1000000000000000000,1", "s,\u0661,1".encode()]:
            self.assertIsNone(records.parse_reading(line), line)

    def test_smoke_and_switches(self):
        self.assertEqual(records.parse_smoke(b"5,HIGH"), Smoke(5, "HIGH"))
        self.assertEqual(records.parse_switch(b"s,5,0"), Switch("s", 5, 0))
        for line in [*make_sensor_data.MALFORMED_SMOKE, b"5,high", b"5,LOW,", b"x,LOW"]:
            self.assertIsNone(records.parse_smoke(line), line)
        for line in [*make_sensor_data.MALFORMED_SWITCHES, b",5,1", b"s,5,1.0", b""]:
            self.assertIsNone(records.parse_switch(line), line)

    def test_access_log(self):
        common = b'h - - [29/Feb/2024:23:59:59 +0100] "GET /a?b=/c HTTP/1.1" 200 17'
        noon = 1_709_247_599_000  # date -ud 2024-02-29T22:59:59Z +%s
        self.assertEqual(access_log.parse_hit(common), Hit("h", noon, "/a", 200, 17))
        good = {
            b"17": b"-", b'17': b'17 "" ""', b" 17": b' 17 "\\"q\\" \\\\" "a"', b"GET": b"M-SEARCH", b"HTTP/1.1": b"HTTP/3",
            b"200": b"599", b"/a?b=/c": b"/x\\\"y?", b"?b=/c": b"", b"+0100": b"-2359",
        }
        for old, new in good.items():
            self.assertIsNotNone(access_log.parse_hit(common.replace(old, new)), new)
        self.assertEqual(access_log.parse_hit(common.replace(b"17", b"-")).bytes, 0)
        self.assertEqual(access_log.parse_hit(common.replace(b"/a?", b'/\\"?')).path, '/\\"')
        bad = [
            (b"29/Feb/2024", b"29/Feb/2023"), (b"29/Feb", b"31/Jun"), (b"29/Feb", b"9/Feb"), (b"Feb", b"feb"),
            (b"23:59:59", b"24:00:00"), (b"23:59:59", b"23:59:60"), (b"+0100", b"0100"), (b"+0100", b"+2400"),
            (b"+0100", b"+0060"), (b"2024", b"0000"), (b"2024", b"1968"), (b"200", b"099"), (b"200", b"600"), (b"200", b"2000"),
            (b"17", b""), (b"17", b"-1"), (b"17", b"1234567890123456"), (b"17", b"17 "), (b"17", b'17 "r"'),
            (b"17", b'17 "r" "a" '), (b"17", b'17 "r"a" "b"'), (b"17", b'17 "r\\" "a"'), (b"17", b"17 \"r\" \"\xff\""),
            (b"GET", b"get"), (b"GET ", b""), (b"GET", b"GET "), (b"/a?b=/c", b""), (b"/a?", b"?"), (b"/a", b"/a b"),
            (b"HTTP/1.1", b"HTTP/1.10"), (b" HTTP/1.1", b""), (b"h -", b"h  -"), (b"h -", b"h\t-"), (b"h ", b""),
        ]
        for old, new in bad:
            self.assertIn(old, common)
            self.assertIsNone(access_log.parse_hit(common.replace(old, new, 1)), (old, new))

    def test_every_way_to_spoil_a_line_does(self):
        log = make_access_log.AccessLog(Dice(5))
        log.health_checks(log.client())
        log.visit(log.client(), 30)
        log.slow_downloads([log.client()])
        for entry in log.entries:
            self.assertIsNotNone(access_log.parse_hit(entry.text.encode()), entry.text)
            for number, spoil in enumerate(make_access_log.MALFORMED):
                line = spoil(entry.text).encode("utf-8", "surrogateescape")
                self.assertIsNone(access_log.parse_hit(line), (number, line))


class WordCount(unittest.TestCase):
    def test_words(self):
        text = "a A a,\ta\x0bb\u00a0c\x00\n\n \nß\xadä".encode() + b"\n\xff a\n"
        self.assertEqual(run("wordcount.py", "--input", "-", stdin=text),
                         (["A\t1", "a\t2", "a,\t1", "b\u00a0c\x00\t1", "ß\xadä\t1"], 1))
        self.assertEqual(wordcount.count_words([b"\xff a", b"a"]), {b"\xff": 1, b"a": 2})

    def test_empty(self):
        self.assertEqual(run("wordcount.py", "--input", "-"), ([], 0))


def hit(client, seconds, path="/", size=1):
    return Hit(client, seconds * 1000, path, 200, size)


class AccessLog(unittest.TestCase):
    def test_top(self):
        hits = [hit("c", 1, "/b"), hit("c", 2, "/a"), hit("c", 3, "/ä"), hit("c", 59, "/c"), hit("c", 58, "/c"), hit("c", 60, "/a")]
        self.assertEqual(list(access_log.top_rows(hits, 2, records.plain)),
                         [(0, 1, b"/c", 2), (0, 2, b"/a", 1), (60000, 1, b"/a", 1)])

    def test_late(self):
        # With a bound of 10 s minute 0 is complete once 69.999 + 0.001 s have been seen.
        hits = [hit("c", 69), hit("c", 0), hit("c", 70), hit("c", 59), hit("c", 60)]
        self.assertEqual([late for _, late in access_log.split_by_lateness(hits, 10_000)], [False, False, False, True, False])
        self.assertFalse(any(late for _, late in access_log.split_by_lateness(hits, None)))

    def test_sessions(self):
        hits = [hit("c", 0), hit("c", 300), hit("c", 601), hit("d", 0), hit("c", 150)]
        closed, late = access_log.sessions(hits, 300_000, None)
        self.assertEqual(sorted(closed), [("c", 0, 300_000, 3, 3), ("c", 601_000, 601_000, 1, 1), ("d", 0, 0, 1, 1)])
        self.assertEqual(late, [])
        closed, late = access_log.sessions(hits, 300_000, 0)
        self.assertEqual(sorted(closed), [("c", 0, 300_000, 2, 2), ("c", 601_000, 601_000, 1, 1)])
        self.assertEqual(late, [hit("d", 0), hit("c", 150)])

    def test_session_that_bridges_two(self):
        hits = [hit("c", 0), hit("c", 400), hit("c", 200)]
        self.assertEqual(access_log.sessions(hits, 300_000, None)[0], [("c", 0, 400_000, 3, 3)])

    def test_sessions_of_the_shipped_log_by_sorting(self):
        times = defaultdict(list)
        for one in records.Records([f"{DATA}/access.log.gz"], access_log.parse_hit):
            times[one.client].append(one.time)
        expected = 0
        for own in times.values():
            own.sort()
            expected += 1 + sum(later - earlier > 300_000 for earlier, later in zip(own, own[1:]))
        rows, _ = run("access_log.py", "sessions", "--no-late", "--input", f"{DATA}/access.log.gz")
        self.assertEqual(len(rows), expected)
        self.assertGreater(expected, len(times) + 20)

    def test_late_lines_account_for_the_difference(self):
        log = ["--input", f"{DATA}/access.log.gz"]
        late, _ = run("access_log.py", "late", *log)
        self.assertEqual(len(late), 7)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "late.tsv")
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in late)
            self.assertEqual(run("access_log.py", "hits", *log, "--late-from", path), run("access_log.py", "hits", *log))
        self.assertNotEqual(run("access_log.py", "hits", *log, "--no-late"), run("access_log.py", "hits", *log))
        self.assertEqual(run("access_log.py", "late", *log, "--no-late")[0], [])
        self.assertEqual(len(run("access_log.py", "late", *log, "--windows", "session")[0]), 2)


class SensorPrograms(unittest.TestCase):
    def test_average(self):
        readings = [Reading("a", 999, 1.0), Reading("a", 0, 2.0), Reading("a", 1000, 4.0), Reading("b", 2000, 0.1), Reading("a", 3, 6.0)]
        self.assertEqual(list(average_temperature.averages(readings, None)), [("a", 0, 3.0), ("a", 1000, 4.0), ("b", 2000, 0.1)])
        self.assertEqual(list(average_temperature.averages(readings, 0))[0], ("a", 0, 1.5))
        self.assertEqual(run("average_temperature.py", "--input", "-", "--plain", stdin=b"a,1500,1\na,1600,2\na,1700,2\n"),
                         (["a\t1000\t1.666667"], 0))

    def test_jump(self):
        readings = [Reading("a", 1, 10.0), Reading("b", 1, 99.0), Reading("a", 2, 11.5), Reading("a", 0, 9.5)]
        self.assertEqual(list(temp_jump_alert.alerts(readings, 1.5)), [(readings[3], 2.0)])
        self.assertEqual(run("temp_jump_alert.py", "--input", "-", "--plain", "--order", "event", "--threshold", "1",
                             stdin=b"a,3,1.5\na,1,4\na,2,4\n"), (["a\t3\t1.500000\t2.500000"], 0))

    def test_rising(self):
        def fired(*readings):
            return [time for _, time in rising_one_second.alerts_by_event_time([Reading("a", *r) for r in readings]) if time]

        self.assertEqual(fired((0, 1.0), (100, 2.0), (1100, 2.0), (1101, 1.0), (1200, 0.5)), [1100])
        self.assertEqual(fired((0, 1.0), (100, 2.0), (1100, 1.0), (1200, 0.5)), [])
        self.assertEqual(fired((0, 1.0), (100, 2.0), (200, 3.0), (1101, 4.0)), [1100, 2101])
        self.assertEqual(fired((0, 1.0), (100, 2.0)), [1100])
        self.assertEqual(fired((0, 1.0)), [])
        self.assertEqual(fired((1101, 1.0), (100, 2.0), (0, 1.0)), [1100])

    def test_rising_by_arrival(self):
        def fired(*readings):
            alerts = rising_one_second.alerts_by_arrival([Reading(*r) for r in readings], 0)
            return [alert for alert in alerts if alert[1]]

        self.assertEqual(fired(("a", 0, 1.0), ("a", 100, 2.0), ("a", 1101, 1.0)), [])
        self.assertEqual(fired(("a", 0, 1.0), ("a", 100, 2.0), ("b", 1101, 1.0), ("a", 1101, 1.0)), [("a", 1100)])

    def test_freezing(self):
        stdin = b"a,1,31.9\nb,2,32\nc,3,-40\n"
        self.assertEqual(run("freezing.py", "--input", "-", "--plain", stdin=stdin)[0], ["a\t1\t31.900000", "c\t3\t-40.000000"])
        self.assertEqual(len(run("freezing.py", "--input", "-", "--stream", "readings", stdin=stdin)[0]), 3)
        self.assertEqual(freezing.FREEZING, 32.0)

    def test_filter_switch(self):
        switches = [Switch("a", 10, 10), Switch("a", 12, 1), Switch("a", 15, 10), Switch("b", 10, 0)]
        readings = [Reading(sensor, time, 0.0) for sensor in "ab" for time in (9, 10, 14, 24, 25)]
        self.assertEqual([(r.sensor, r.time) for r in filter_switch.forwarded(readings, switches)], [("a", 10), ("a", 14), ("a", 24)])

    def test_fire(self):
        smoke = [Smoke(10, "HIGH"), Smoke(20, "HIGH"), Smoke(20, "LOW")]
        readings = [Reading("a", time, 100.5) for time in (9, 20, 19, 10)] + [Reading("a", 11, 100.0)]
        self.assertEqual([alert.time for alert in fire_alert.alerts(readings, smoke)], [10, 19])


class ShippedData(unittest.TestCase):
    def test_is_what_the_generators_write(self):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "access.log.gz")
            subprocess.run([sys.executable, f"{HERE}/make_access_log.py", "--output", log], check=True)
            subprocess.run([sys.executable, f"{HERE}/make_sensor_data.py", "--output", folder], check=True)
            for name in sorted(os.listdir(folder)):
                self.assertEqual(list(records.lines([f"{folder}/{name}"])), list(records.lines([f"{DATA}/{name}"])), name)

    def test_disorder(self):
        largest, late = 0, 0
        for one in records.Records([f"{DATA}/access.log.gz"], access_log.parse_hit):
            late += largest - one.time > 9_000
            largest = max(largest, one.time)
        self.assertEqual(late, len(make_access_log.SLOW_DOWNLOADS))
        largest, most, seen = 0, 0, set()
        for reading in records.Records([f"{DATA}/sensors.csv"], records.parse_reading):
            most, largest = max(most, largest - reading.time), max(largest, reading.time)
            self.assertNotIn(reading[:2], seen)
            seen.add(reading[:2])
        self.assertTrue(500 < most < 1000, most)


if __name__ == "__main__":
    unittest.main()
