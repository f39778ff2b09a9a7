#!/usr/bin/env python3
"""Fire alerts: hot readings while the smoke level is high.

Input: sensor readings, id,timestamp_ms,temperature, and with --smoke the smoke levels,
timestamp_ms,LOW or HIGH (see records.py for what is malformed).
The two inputs are merged by timestamp: at equal times smoke comes before readings, and lines of one
input keep their order. The smoke level concerns all sensors; it is LOW before its first line and
stays until the next one. A reading alerts if the level is HIGH and its temperature > 100 (not 100
itself).

Output: sensor, time, temperature. malformed= counts the lines of both inputs.
"""

import records

HOT = 100.0


def alerts(readings, smoke):
    events = [(level.time, 0, level) for level in smoke] + [(reading.time, 1, reading) for reading in readings]
    level = "LOW"
    for _, is_reading, event in sorted(events, key=lambda event: event[:2]):
        if not is_reading:
            level = event.level
        elif level == "HIGH" and event.temperature > HOT:
            yield event


def main():
    parser = records.argument_parser(__doc__)
    parser.add_argument("--smoke", nargs="+", required=True, metavar="PATH",
                        help="the smoke levels: file, folder, glob or -")
    options = parser.parse_args()
    when = records.plain if options.plain else records.iso_millis
    readings = records.Records(options.input, records.parse_reading)
    smoke = records.Records(options.smoke, records.parse_smoke)
    rows = ((reading.sensor, when(reading.time), reading.temperature) for reading in alerts(readings, smoke))
    records.print_results(rows, readings, smoke)


if __name__ == "__main__":
    records.run(main)
