#!/usr/bin/env python3
"""Readings of sensors that are switched on: each switch forwards one sensor for some time.

Input: sensor readings, id,timestamp_ms,temperature, and with --switches the switches,
id,timestamp_ms,duration_ms (see records.py for what is malformed).
All times are event times. A switch at s with duration d forwards the readings of its sensor whose
time t satisfies s <= t < s + d. Switches of a sensor add up: a reading is forwarded, once, if any
switch covers it, so a shorter later switch never cuts a longer earlier one; a duration of 0
forwards nothing. The order of the lines in both inputs is irrelevant.

Output: sensor, time, temperature. malformed= counts the lines of both inputs.
"""

from collections import defaultdict

import records


def forwarded(readings, switches):
    intervals = defaultdict(list)
    for switch in switches:
        intervals[switch.sensor].append((switch.time, switch.time + switch.duration))
    for reading in readings:
        if any(start <= reading.time < end for start, end in intervals[reading.sensor]):
            yield reading


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--switches", nargs="+", required=True, metavar="PATH",
                        help="the switches: file, folder, glob or -")
    options = parser.parse_args()
    when = records.plain if options.plain else records.iso_millis
    readings = records.Records(options.input, records.parse_reading)
    switches = records.Records(options.switches, records.parse_switch)
    rows = ((reading.sensor, when(reading.time), reading.temperature)
            for reading in forwarded(readings, switches))
    records.print_results(rows, readings, switches)


if __name__ == "__main__":
    records.run(main)
